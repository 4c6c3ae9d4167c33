"""The cost of detectors: ``python -m benchmarks detectors``.

PRADA's request is timed beside one float32 product of its rows with all rows kept so far, and beside the loop of
the authors' code: one ``np.linalg.norm`` for each row in the growing set of a row's class. PRADA's time covers all
that it does; the product and the loop only find distances. All three are timed in turn within each round, in CPU
time of all threads, and ratios are taken within rounds. The streams are images: each class is a cloud of 24
dimensions about a centre, in 255ths or in other floats. Delta is 0.03 under the W of the distances so far. What
other layers cost is in :mod:`benchmarks.forwards`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from benchmarks.forwards import Forwards
from benchmarks.measure import cpu_seconds, ratios, spread
from defenses.detectors.prada import Prada, State
from defenses.monitoring.nearest import floats
from experiments.header import header
from wire import Array, Labels

MOST_PRODUCTS, LEAST_LOOPS, MOST_OF_A_FORWARD = 1.5, 20, 0.2
_TIMED = 4  # rows of a round on which the loop is timed, and lone rows on which the others are
_LOADED = 512  # rows of a request before the first round


@dataclass(frozen=True)
class Detectors:
    """A comparison of PRADA with a product and a loop.

    Attributes:
        features: Features of a row.
        history: Rows that are kept before the first round.
        classes: Classes of the stream.
        rows: Rows of a request.
        kinds: Kinds of rows: ``pixels`` of 8 bits, or ``floats``.
        rounds: Number of rounds.
        seed: Seed of the streams.
    """

    features: Sequence[int] = (784, 3072)
    history: Sequence[int] = (1_000, 10_000, 50_000)
    classes: int = 10
    rows: Sequence[int] = (1, 64)
    kinds: Sequence[str] = ("pixels", "floats")
    rounds: int = 9
    seed: int = 0

    def run(self) -> dict[str, Any]:
        """Runs all rounds; returns all figures, behind the header."""
        head = header(asdict(self), seeds=[self.seed])
        prada, cases = [], list(product(self.kinds, self.features, self.history))
        with tqdm(total=(len(cases) * len(self.rows) + 2) * self.rounds, unit="round") as bar:
            bar.set_postfix_str("layers")
            layers = Forwards(self.rounds, self.seed).run(bar)
            for kind, d, n in cases:
                bar.set_postfix_str(f"{n} rows of {d} {kind}")
                prada += self._prada(kind, d, n, bar)
        return {
            **head,
            "prada": prada,
            "layers": layers,
        }

    def _prada(self, kind: str, d: int, n: int, bar: tqdm[Any]) -> list[dict[str, Any]]:
        stream = _Stream(np.random.default_rng(self.seed), kind, d, self.classes)
        state = State()
        while (kept := _kept(state)) < n:
            Prada(0.0).observe(state, *stream.draw(min(_LOADED, max(64, n - kept))))
        parts = {c: floats(kept.rows.values) for c, kept in state.pasts[0].G.sets.items()}
        history = np.concatenate(list(parts.values()))
        ends = np.cumsum([len(part) for part in parts.values()])
        growing_sets = dict(zip(parts, np.split(history, ends[:-1]), strict=True))  # views, for memory's sake
        del parts
        prada = Prada(max(0.0, (state.pasts[0].D.w(lambda count, _: count > 2) or 0.0) - 0.03))
        return [self._sized(prada, state, stream, history, growing_sets, size, bar) for size in self.rows]

    def _sized(
        self,
        prada: Prada,
        state: State,
        stream: _Stream,
        history: Array,
        growing_sets: dict[int, Array],
        size: int,
        bar: tqdm[Any],
    ) -> dict[str, Any]:
        times: dict[str, list[float]] = {"prada": [], "product": [], "loop": []}
        requests = max(1, _TIMED // size)
        for number in range(self.rounds + 1):
            asked = [stream.draw(size) for _ in range(requests)]
            rows = [(x, label) for xs, labels in asked for x, label in zip(xs, labels.tolist(), strict=True)]
            one = {
                "prada": sum(cpu_seconds(prada.observe, state, *request) for request in asked) / len(rows),
                "product": sum(cpu_seconds(np.matmul, x, history.T) for x, _ in asked) / len(rows),
                "loop": sum(cpu_seconds(_loop, x, list(growing_sets[of])) for x, of in rows[:_TIMED]) / _TIMED,
            }
            if number:  # the first warms up
                for name, seconds in one.items():
                    times[name].append(seconds)
                bar.update()
        return {
            "kind": stream.kind,
            "features": history.shape[1],
            "rows": size,
            "rows_kept": len(history),
            "rows_sent": state.rows,
            "alarmed": state.alarm is not None,
            "bytes_over_rows": state.nbytes
            / sum(kept.rows.values.nbytes for kept in state.pasts[0].G.sets.values()),
            "microseconds_a_row": {name: spread([1e6 * t for t in of])._asdict() for name, of in times.items()},
            "products": ratios(times["prada"], times["product"])._asdict(),
            "loops": ratios(times["loop"], times["prada"])._asdict(),
        }


class _Stream:
    """Images, those of a class about its centre."""

    def __init__(self, rng: np.random.Generator, kind: str, d: int, classes: int) -> None:
        self._rng, self.kind = rng, kind
        self._centres = rng.uniform(80, 170, (classes, d)).astype(np.float32)
        self._basis = (8 * rng.normal(size=(24, d))).astype(np.float32)

    def draw(self, n: int) -> tuple[Array, Labels]:
        labels = self._rng.integers(len(self._centres), size=n)
        x = self._centres[labels] + self._rng.standard_normal((n, 24), np.float32) @ self._basis
        x = x.clip(0, 255)
        return (x.astype(np.uint8) if self.kind == "pixels" else x) / np.float32(255), labels


def _kept(state: State) -> int:
    return sum(kept.count for kept in state.pasts[0].G.sets.values())


def _loop(x: Array, rows: list[Array]) -> float:
    return float(min(np.linalg.norm(x - g) for g in rows))


def table(results: dict[str, Any]) -> str:
    """Returns the results of a run as a table."""
    settings = results["settings"]
    lines = [
        f"{results['machine']['cpu']}; medians of {settings['rounds']} rounds, CPU us per row",
        f"PRADA, {settings['classes']} classes; wanted: at most {MOST_PRODUCTS} times the product with all rows "
        f"kept, at least {LEAST_LOOPS} times less than the loop over a class's; memory in that of the rows kept",
        f"{'':<6} {'features':>8} {'kept':>7} {'a request':>9} {'prada':>9} {'product':>9} {'loop':>9}"
        f" {'memory':>7} {'times the product':>28} {'times less than the loop':>28}",
    ]
    for figure in results["prada"]:
        micro = figure["microseconds_a_row"]
        lines.append(
            f"{figure['kind']:<6} {figure['features']:>8} {figure['rows_kept']:>7} {figure['rows']:>9}"
            + "".join(f" {micro[name]['median']:>9.1f}" for name in ("prada", "product", "loop"))
            + f" {figure['bytes_over_rows']:>7.3f}"
            + f" {_judged(figure['products'], figure['products']['median'] <= MOST_PRODUCTS):>28}"
            + f" {_judged(figure['loops'], figure['loops']['median'] >= LEAST_LOOPS):>28}"
        )
    lines += [
        f"others, in forward passes of the victim, a small CNN; wanted: DAWN at most {MOST_OF_A_FORWARD}",
        f"{'':<6} {'a request':>9} {'layer':>9} {'forward':>9} {'of a forward':>28}",
    ]
    for figure in results["layers"]:
        name, share = figure["layer"], figure["forwards"]
        lines.append(
            f"{name:<6} {figure['rows']:>9} {figure['microseconds_a_row']['median']:>9.1f}"
            f" {figure['forward_microseconds_a_row']['median']:>9.1f}"
            f" {_judged(share, share['median'] <= MOST_OF_A_FORWARD if name == 'dawn' else None):>28}"
        )
    return "\n".join(lines)


def _judged(ratio: dict[str, float], reached: bool | None) -> str:
    verdict = "" if reached is None else " reached" if reached else " MISSED"
    return f"{ratio['median']:.3g} ({ratio['low']:.3g}-{ratio['high']:.3g}){verdict}"


def run(arguments: argparse.Namespace) -> str:
    """Measures, on one thread as a served model does by default; returns the table."""
    torch.set_num_threads(1)
    with threadpool_limits(1):
        results = Detectors(
            arguments.features, arguments.history, arguments.classes, arguments.rows, rounds=arguments.rounds
        ).run()
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")
    return table(results)
