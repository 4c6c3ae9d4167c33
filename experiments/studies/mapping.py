"""How often DAWN's mappings treat a near-duplicate like the original: ``python -m experiments mapping``.

The published table gives the share of all rows whose noisy copy gets the same decision. Most rows and most
copies are not marked, so even independent decisions agree on 90.5 % of the rows at a rate of 5 %. The telling
number is the share of copies of *marked* rows that are not marked: 95 % if decisions are independent.

Source: Szyller et al., ACM MM 2021, "Mapping function"; the table is in ``mapping.ipynb`` of the authors'
repository (MNIST, 10,000 test images with 10 noisy copies each, r_w 5 %, a layer of 200 units).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from benchmarks.measure import cpu_seconds, spread
from defenses.watermarks.key import WatermarkKey
from defenses.watermarks.ledger import encode_rows
from defenses.watermarks.mapping import cells, rate_spread
from experiments.header import header
from owner.judge import NEAR
from server.deployment.engine import engine_of
from server.settings import Victim
from wire import Array, Labels
from zoo.data import load, roles
from zoo.families.cnn import Cnn
from zoo.network import Network
from zoo.penultimate import activation_bits, penultimate
from zoo.recipe import Recipe, trained

PUBLISHED = {0.05: 0.9618, 0.075: 0.9484, 0.09: 0.9417, 0.1: 0.9391, 0.2: 0.9184}  # agreement, by eps
_PASSES = 40  # of an engine in a round, of one row


@dataclass(frozen=True)
class Mapping:
    """A measurement on the victims of some data sets.

    Attributes:
        datasets: Their names; grey images.
        keys: Number of keys.
        rate: Share of the rows that are marked.
        rows: Rows that did not train the victim; each gets one copy of each kind.
        rounds: Rounds of timed passes.
        seed: Seed of the roles, the victim and the noise; the keys are 0, 1, ... in 32 bytes.
    """

    datasets: Sequence[str] = ("fashion_mnist",)
    keys: int = 3
    rate: float = 0.05
    rows: int = 10_000
    rounds: int = 9
    seed: int = 0

    def run(self, data: Path | None, cache: Path) -> dict[str, Any]:
        """Measures; returns all figures, behind the header."""
        return {
            **header(asdict(self), seeds=[self.seed]),
            "published": {str(eps): agreement for eps, agreement in PUBLISHED.items()},
            "independent": {"agreement": 1 - 2 * self.rate * (1 - self.rate), "flips": 1 - self.rate},
            "datasets": {name: self._measure(name, data, cache) for name in self.datasets},
        }

    def _measure(self, name: str, data: Path | None, cache: Path) -> dict[str, Any]:
        held = roles.draw(load(name, data, cache), self.seed)
        network = trained(Recipe(Cnn(), seed=self.seed), held["victim"], cache, device="cpu", label=name).network()
        x, y = held["control"].x[: self.rows], held["control"].y
        assert y is not None
        limits = np.median(penultimate(network).logits(held["victim"].x[: self.rows]), axis=0)
        seen = _Seen.of(network, limits, x)
        keys = [WatermarkKey(number.to_bytes(32, "big")) for number in range(self.keys)]
        _, counts = np.unique(seen.median[1], return_counts=True)
        copies = {
            kind: self._compare(seen, _Seen.of(network, limits, copy(x)), keys)
            for kind, copy in tqdm(list(_copies(np.random.default_rng(self.seed))), desc=name, unit="kind")
        }
        return {
            "victim": str(network.family),
            "accuracy": float((seen.labels == y[: self.rows]).mean()),
            "units": len(limits),
            "units_that_vary": int((seen.above.any(axis=0) & ~seen.above.all(axis=0)).sum()),
            "medians_at_zero": int((limits == 0).sum()),
            "cells": len(counts),
            "rows_in_the_largest_cell": int(counts.max()),
            "rate_spread": rate_spread(seen.median[1], self.rate),
            "realised_rates": [len(key.marked(self.rate, *seen.median)) / self.rows for key in keys],
            "rows_within_rounding_of_another_cell": seen.near,
            "passes": _passes(network, limits, x[:64], cache, self.rounds),
            "copies": copies,
        }

    def _compare(self, one: _Seen, other: _Seen, keys: Sequence[WatermarkKey]) -> dict[str, Any]:
        found: dict[str, Any] = {
            "bits_that_differ": float((one.above != other.above).sum(axis=1).mean()),
            "same_cell": float((one.above == other.above).all(axis=1).mean()),
            "same_label": float((one.labels == other.labels).mean()),
        }
        for mapping in ("median", "exact"):
            marks = [[self._marks(key, each, mapping) for each in (one, other)] for key in keys]
            marked = [first >= 0 for first, _ in marks]
            found[mapping] = {
                "agreement": [float(((a >= 0) == (b >= 0)).mean()) for a, b in marks],
                "flips": [float((b[m] < 0).mean()) for m, (_, b) in zip(marked, marks, strict=True)],
                "told_otherwise": [float((a[m] != b[m]).mean()) for m, (a, b) in zip(marked, marks, strict=True)],
            }
        return found

    def _marks(self, key: WatermarkKey, seen: _Seen, mapping: str) -> Labels:
        """Returns the label that each marked row gets, and -1 for the others."""
        form, points = seen.median if mapping == "median" else seen.exact
        marks = np.full(len(points), -1)
        for i in key.marked(self.rate, form, points):
            marks[i] = key.false_label(form, points[i], int(seen.labels[i]), seen.classes)
        return marks


@dataclass(frozen=True)
class _Seen:
    """Rows as a victim sees them: their labels, the units above their medians, and the points of both mappings."""

    labels: Labels
    classes: int
    above: Array
    near: float
    median: tuple[str, Sequence[bytes]]
    exact: tuple[str, Sequence[bytes]]

    @staticmethod
    def of(network: Network, limits: Array, x: Array) -> _Seen:
        activations = penultimate(network).logits(x)
        over, apart = activations > limits, np.abs(activations - limits)
        near = (apart > 0) & (apart <= NEAR * (1 + np.abs(limits)))  # both are equal only where ReLU made them 0
        labels = network.predict(x).argmax(axis=1)
        return _Seen(labels, network.classes, over, float(near.any(axis=1).mean()), cells(over), encode_rows(x))


def _copies(rng: np.random.Generator) -> Iterator[tuple[str, Callable[[Array], Array]]]:
    """Yields kinds of near-duplicates of 8-bit images, ``(n, 1, h, w)`` from 0 to 1."""
    yield "float16", lambda x: x.astype(np.float16).astype(np.float32)
    for kind in ("uniform", "gaussian"):
        for eps in (1 / 255, 0.01, *PUBLISHED):
            yield f"{kind} {eps:.3g}", partial(_noisy, rng=rng, kind=kind, eps=eps)
    for way, (axis, step) in {"down": (2, 1), "up": (2, -1), "right": (3, 1), "left": (3, -1)}.items():
        yield f"a pixel {way}", partial(np.roll, shift=step, axis=axis)
    for quality in (95, 75, 50):
        yield f"JPEG {quality}", partial(_jpeg, quality=quality)


def _noisy(x: Array, *, rng: np.random.Generator, kind: str, eps: float) -> Array:
    noise = rng.uniform(-eps, eps, x.shape) if kind == "uniform" else rng.normal(0, eps, x.shape)
    return np.clip(x + noise, 0, 1).astype(np.float32)


def _jpeg(x: Array, *, quality: int) -> Array:
    decoded = []
    for row in np.rint(255 * x[:, 0]).astype(np.uint8):
        content = io.BytesIO()
        Image.fromarray(row).save(content, "JPEG", quality=quality)
        decoded.append(np.asarray(Image.open(content)))
    return np.stack(decoded)[:, None] / np.float32(255)


def _passes(network: Network, limits: Array, x: Array, cache: Path, rounds: int) -> dict[str, Any]:
    """Times passes that map rows beside the victim's own passes, in CPU time, in turn within each round."""
    victim = Victim.model_validate({"name": "victim", "folder": Path()})
    card = network.card()
    engines = [engine_of(one, victim, card, cache, 1) for one in (network, activation_bits(network, limits))]
    found: dict[str, Any] = {"engines": [engine.platform for engine in engines]}
    for n in (1, len(x)):
        passes = max(1, _PASSES // n)
        took = [
            [cpu_seconds(engine.predict, [x[:n]], times=passes) for engine in engines] for _ in range(rounds + 1)
        ]
        found[f"of {n}"] = spread([mapped / asked for asked, mapped in took[1:]])._asdict()
    return found


def table(results: dict[str, Any]) -> str:
    """Formats results for a person."""
    rate, alone = results["settings"]["rate"], results["independent"]
    lines = [
        f"rate {rate:g}, medians of {results['settings']['keys']} keys; independent decisions: agreement "
        f"{alone['agreement']:.2%}, flips among marked {alone['flips']:.1%}"
    ]
    for name, found in results["datasets"].items():
        rates = ", ".join(f"{realised:.2%}" for realised in found["realised_rates"])
        passes = {kind: of["median"] for kind, of in found["passes"].items() if kind != "engines"}
        lines += [
            f"{name}: {found['victim']}, accuracy {found['accuracy']:.2%}; {found['units_that_vary']} units vary, "
            f"{found['cells']} cells of {results['settings']['rows']} rows, the largest of "
            f"{found['rows_in_the_largest_cell']}; realised rates {rates}",
            "  cost in the victim's passes: " + ", ".join(f"{kind} {of:.2f}" for kind, of in passes.items()),
            f"  {found['rows_within_rounding_of_another_cell']:.2%} of the rows are within a judge's tolerance of "
            "another cell",
            f"  {'copy':<16} {'bits':>5} {'same cell':>9} {'label':>6} {'agreement':>9} {'published':>9} "
            f"{'flips':>6} {'published':>9} {'another label':>14} {'exact':>6}",
        ]
        for kind, copy in found["copies"].items():
            middle = {what: float(np.median(values)) for what, values in copy["median"].items()}
            exact = float(np.median(copy["exact"]["flips"]))
            published = PUBLISHED.get(float(kind.split()[1])) if kind.startswith("uniform") else None
            beside = ["", ""] if published is None else [f"{published:.2%}", f"{(1 - published) / (2 * rate):.0%}"]
            lines.append(
                f"  {kind:<16} {copy['bits_that_differ']:>5.1f} {copy['same_cell']:>9.1%} "
                f"{copy['same_label']:>6.1%} {middle['agreement']:>9.2%} {beside[0]:>9} {middle['flips']:>6.1%} "
                f"{beside[1]:>9} {middle['told_otherwise']:>14.1%} {exact:>6.1%}"
            )
    lines.append("published flips: derived from the agreement, if as many marks appear as are lost")
    return "\n".join(lines)
