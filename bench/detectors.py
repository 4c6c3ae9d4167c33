"""What detectors cost beside what they are made of: ``python -m bench detectors``.

PRADA's request of some rows stands beside one float32 product of these rows with all rows of history, and beside
the loop over the rows of one class with ``np.linalg.norm``. All three are timed in turn within each round, in CPU
time of all threads, and ratios are taken within rounds. The streams are images of 8 bits, each class a cloud of 24
dimensions about a centre; delta is 0.03 under the W that history has.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from bench.serving.rounds import cpu_model
from bench.serving.targets import Spread, spread
from defenses.detectors.neighbours import Rows
from defenses.detectors.prada import Prada, State
from wire import Array, Labels
from wire.command import at_least

MOST_PRODUCTS, LEAST_LOOPS = 1.5, 20
_LOOPS = 4  # rows that the loop is timed on


@dataclass(frozen=True)
class Detectors:
    """A comparison.

    Attributes:
        features: Features of a row.
        history: Rows that are kept before the first round.
        classes: Classes of the stream.
        rows: Rows of a request.
        rounds: Number of rounds.
        seed: Seed of the streams.
    """

    features: Sequence[int] = (784, 3072)
    history: Sequence[int] = (1_000, 10_000, 50_000)
    classes: int = 10
    rows: int = 64
    rounds: int = 9
    seed: int = 0

    def run(self) -> dict[str, Any]:
        """Runs all rounds; returns what is written down of them."""
        figures = []
        with tqdm(total=len(self.features) * len(self.history) * self.rounds, unit="round") as bar:
            for d in self.features:
                for n in self.history:
                    bar.set_postfix_str(f"{d} features, {n} rows")
                    figures.append(self._prada(d, n, bar))
        return {
            "date": datetime.date.today().isoformat(),
            "settings": asdict(self),
            "machine": {"cpu": cpu_model(), "platform": platform.platform()},
            "prada": figures,
        }

    def _prada(self, d: int, n: int, bar: tqdm[Any]) -> dict[str, Any]:
        stream = _Stream(np.random.default_rng(self.seed), d, self.classes)
        state = State()
        while _kept(state) < n:
            Prada(0.0).observe(state, *stream.draw(min(512, max(self.rows, n - _kept(state)))))
        kept = {label: _floats(growing.kept.values()) for label, growing in state.classes.items()}
        history = np.concatenate(list(kept.values()))
        prada = Prada(max(0.0, (Prada(0.0).statistic(state) or 0.0) - 0.03))
        times: dict[str, list[float]] = {"prada": [], "product": [], "loop": []}
        for number in range(self.rounds + 1):
            x, labels = stream.draw(self.rows)
            loops = [(row, list(kept[label])) for row, label in zip(x[:_LOOPS], labels.tolist(), strict=False)]
            one = {
                "prada": _seconds(prada.observe, state, x, labels) / self.rows,
                "product": _seconds(np.matmul, x, history.T) / self.rows,
                "loop": sum(_seconds(_loop, *one) for one in loops) / _LOOPS,
            }
            if number:  # the first warms up
                for name, seconds in one.items():
                    times[name].append(seconds)
                bar.update()
        return {
            "features": d,
            "rows_kept": len(history),
            "rows_sent": state.rows,
            "alarmed": state.alarm is not None,
            "bytes_over_rows": state.nbytes / (_kept(state) * d),
            "microseconds_a_row": {name: spread([1e6 * t for t in of])._asdict() for name, of in times.items()},
            "products": _ratios(times["prada"], times["product"])._asdict(),
            "loops": _ratios(times["loop"], times["prada"])._asdict(),
        }


class _Stream:
    """Images of 8 bits, by class about a centre."""

    def __init__(self, rng: np.random.Generator, d: int, classes: int) -> None:
        self._rng = rng
        self._centres = rng.uniform(80, 170, (classes, d)).astype(np.float32)
        self._basis = (8 * rng.normal(size=(24, d))).astype(np.float32)

    def draw(self, n: int) -> tuple[Array, Labels]:
        labels = self._rng.integers(len(self._centres), size=n)
        x = self._centres[labels] + self._rng.standard_normal((n, 24), np.float32) @ self._basis
        return x.clip(0, 255).astype(np.uint8) / np.float32(255), labels


def _kept(state: State) -> int:
    return sum(growing.sums.count for growing in state.classes.values())


def _floats(kept: Any) -> Array:
    return np.concatenate([Rows(one.values.copy()).floats.values for one in kept])


def _loop(x: Array, rows: list[Array]) -> float:
    return float(min(np.linalg.norm(x - g) for g in rows))


def _seconds(run: Callable[..., object], *given: object) -> float:
    start = time.process_time()
    run(*given)
    return time.process_time() - start


def _ratios(above: Sequence[float], below: Sequence[float]) -> Spread:
    return spread([a / b for a, b in zip(above, below, strict=True)])


def table(results: dict[str, Any]) -> str:
    """Returns what a person reads of a run's results."""
    settings = results["settings"]
    lines = [
        f"{results['machine']['cpu']}; PRADA, requests of {settings['rows']} rows, {settings['classes']} classes, "
        f"medians of {settings['rounds']} rounds, CPU us per row",
        f"{'features':>8} {'kept':>7} {'prada':>9} {'product':>9} {'loop':>9} {'memory':>7}"
        f" {'of a product':>26} {'a loop over it':>26}",
    ]
    for figure in results["prada"]:
        micro = figure["microseconds_a_row"]
        lines.append(
            f"{figure['features']:>8} {figure['rows_kept']:>7}"
            + "".join(f" {micro[name]['median']:>9.1f}" for name in ("prada", "product", "loop"))
            + f" {figure['bytes_over_rows']:>7.3f}"
            + f" {_judged(figure['products'], figure['products']['median'] <= MOST_PRODUCTS):>26}"
            + f" {_judged(figure['loops'], figure['loops']['median'] >= LEAST_LOOPS):>26}"
        )
    lines.append(f"targets: at most {MOST_PRODUCTS} products, at least {LEAST_LOOPS} times less than the loop")
    return "\n".join(lines)


def _judged(ratio: dict[str, float], reached: bool) -> str:
    return f"{ratio['median']:.3g} ({ratio['low']:.3g}-{ratio['high']:.3g}) {'reached' if reached else 'MISSED'}"


def add(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    many = {"nargs": "+", "type": at_least(1), "metavar": "N"}
    parser.add_argument("--features", default=Detectors.features, help="features of a row", **many)  # type: ignore[arg-type]
    parser.add_argument("--history", default=Detectors.history, help="rows kept before", **many)  # type: ignore[arg-type]
    parser.add_argument("--classes", type=at_least(1), default=Detectors.classes, help="classes (default: 10)")
    parser.add_argument("--rounds", type=at_least(1), default=Detectors.rounds, help="rounds (default: 9)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")


def run(arguments: argparse.Namespace) -> str:
    """Measures; returns the table."""
    results = Detectors(arguments.features, arguments.history, arguments.classes, rounds=arguments.rounds).run()
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")
    return table(results)
