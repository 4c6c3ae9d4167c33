"""Whether the time of an answer tells that it is marked: DAWN's first answers, over HTTP and in process.

A mark is in the store before its answer leaves, so the first answer about a marked row may take longer. The area
under the ROC curve says how well one latency tells marked rows from others, 0.5 being a guess. The null is the
range of areas under random divisions of the latencies. Rows are asked again once their marks are in the store.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np
from tqdm import tqdm

from experiments.header import header
from experiments.lab import Lab
from experiments.metrics import auc
from experiments.parties import Parties
from server.inprocess import serve
from wire import Answer, Array, BadInput
from zoo.families.mlp import Mlp
from zoo.network import Network

Ask = Callable[[Array], Answer]
CLASSES = tuple("0123456789")


@dataclass(frozen=True)
class Marks:
    """Times first and second answers about single rows.

    Attributes:
        rows: Rows to ask about.
        rate: Share of them that DAWN marks.
        shuffles: Random divisions for the range of the null.
        seed: Seed of the rows and of the divisions.
    """

    rows: int = 1000
    rate: float = 0.2
    shuffles: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rows < 50 or not 0.02 <= self.rate <= 0.5 or self.shuffles < 20:
            raise BadInput(
                "marks: rows must be at least 50, rate lie between 0.02 and 0.5 and shuffles be at least 20, not "
                f"{self.rows}, {self.rate:g} and {self.shuffles}"
            )

    def run(self, cache: Path) -> dict[str, Any]:
        """Returns the areas under the curve, by way and by round.

        Args:
            cache: Folder of what a later run finds again.
        """
        network = Network.new(Mlp(hidden=(64,)), (1, 8, 8), CLASSES, seed=self.seed, device="cpu")
        x = np.random.default_rng(self.seed).random((self.rows, 1, 8, 8), np.float32)
        own = network.predict(x).argmax(axis=1)
        found: dict[str, Any] = {}
        with serve(network, defenses=[{"type": "dawn", "rate": self.rate}], progress=False) as api:
            found["in process"] = self._timed("in process", api.oracle(progress=False).query, x, own)
        with TemporaryDirectory(prefix="mlaas-range-") as out, Parties(Path(out)) as parties:
            lab = Lab(parties, cache, None, (self.seed,))
            served = lab.serve("marks", {"marked": (network, f'{{ type = "dawn", rate = {self.rate} }}')})
            found["over HTTP"] = self._timed("over HTTP", lab.oracle(served, "marked", "thief").query, x, own)
        return {**header(asdict(self), seeds=range(self.seed, self.seed + 1)), "marks": found}

    def _timed(self, way: str, ask: Ask, x: Array, own: Array) -> dict[str, Any]:
        """Asks about each row twice, in another order the second time."""
        rng = np.random.default_rng(self.seed)
        for row in x[:20] * np.float32(0.5):  # connections, and the first passes of an engine
            ask(row[None])
        rounds: dict[str, Any] = {}
        for name, order in (("first", np.arange(len(x))), ("again", rng.permutation(len(x)))):
            seconds, told = np.empty(len(x)), np.empty(len(x), np.int64)
            for i in tqdm(order, desc=f"{way}, {name}", unit="row", dynamic_ncols=True):
                begun = perf_counter()
                told[i] = ask(x[i : i + 1]).labels[0]
                seconds[i] = perf_counter() - begun
            rounds[name] = self._found(seconds, told != own, rng)
        return rounds

    def _found(self, seconds: Array, marked: Array, rng: np.random.Generator) -> dict[str, Any]:
        areas = [auc(seconds, rng.permutation(marked)) for _ in range(self.shuffles)]
        low, high = np.quantile(areas, [0.025, 0.975])
        return {
            "marked": int(marked.sum()),
            "auc": auc(seconds, marked),
            "null_low": float(low),
            "null_high": float(high),
            "median_ms": {
                name: float(np.median(seconds[of]) * 1e3) for name, of in (("marked", marked), ("not", ~marked))
            },
        }


def table(results: Mapping[str, Any]) -> str:
    """Formats the results for a person."""
    lines = ["way          round   marked   AUC     95 % of random divisions   median ms, marked and not"]
    for way, rounds in results["marks"].items():
        for name, it in rounds.items():
            ms = it["median_ms"]
            lines.append(
                f"{way:<12} {name:<7} {it['marked']:>6}   {it['auc']:.3f}   {it['null_low']:.3f} to "
                f"{it['null_high']:.3f}             {ms['marked']:.2f}   {ms['not']:.2f}"
            )
    return "\n".join(lines)
