"""Thefts that are split over many keys: ``python -m experiments sybils``.

The queries of an attack do not depend on the key that sends them, as long as the answers are the same. So each
attack runs once against its victim, in this process. Its rows are then split over k keys: in turns (row i to
key i mod k), at random, or so that each class has its own keys. They are mixed with the rows of harmless
accounts in random order. In a padded theft, a share of each key's rows are dummies: harmless rows that no other
account sends. All rows are 8-bit images, so the rows of an attack are rounded.

The results are the share of keys that are flagged, and the share of the theft's rows that these keys have sent
by then: by PRADA, which watches each key alone; by the monitor across accounts; by either; and by the monitor
when it also counts rows near others of the same key.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.measure import spread
from experiments.header import header
from experiments.studies.sybils_trial import Trial
from zoo.data import load


@dataclass(frozen=True)
class Splits:
    """A comparison.

    Attributes:
        dataset: The victim's data set, of grey images.
        foreign: Data set of natural images of the same shape that are not like the victim's.
        keys: Numbers of keys.
        padding: Shares of dummies among a key's rows.
        theft: Rows of an attack, at most.
        accounts: Harmless accounts.
        rows: Rows of a harmless account.
        trained: Rows that the victim is trained on.
        epochs: Passes over them.
        window: Rows that the monitor compares with.
        share: Share of harmless rows that it may find too near.
    """

    dataset: str = "fashion_mnist"
    foreign: str = "mnist_digits"
    keys: Sequence[int] = (1, 5, 25, 125)
    padding: Sequence[float] = (0.0, 0.5, 0.9)
    theft: int = 1600
    accounts: int = 50
    rows: int = 200
    trained: int = 10_000
    epochs: int = 4
    window: int = 10_000
    share: float = 0.005

    def run(self, seeds: Sequence[int], data: Path | None, cache: Path) -> dict[str, Any]:
        """Runs all seeds; returns all figures, behind the header."""
        head, start = header(asdict(self), seeds=seeds), time.process_time()
        own, foreign = load(self.dataset, data, cache), load(self.foreign, data, cache)
        trials = {}
        with tempfile.TemporaryDirectory(prefix="mlaas-sybils-") as work:
            for seed in tqdm(seeds, unit="seed"):
                trials[seed] = Trial(self, seed, own, foreign.pool, cache, Path(work)).run()
        keyed: dict[tuple[Any, ...], list[dict[str, float]]] = {}
        for trial in trials.values():
            for place, figures in trial.pop("thefts"):
                keyed.setdefault(place, []).append(figures)
        names = ("attack", "padding", "split", "keys")
        return {
            **head,
            "cpu_seconds": round(time.process_time() - start),
            "trials": {str(seed): trial for seed, trial in trials.items()},
            "thefts": [
                dict(zip(names, place, strict=True))
                | {name: spread([one[name] for one in figures])._asdict() for name in figures[0]}
                for place, figures in keyed.items()
            ],
        }


def table(results: Mapping[str, Any]) -> str:
    """Formats results for a person."""
    trials = results["trials"].values()
    lines = [
        "share of the keys that are flagged and, in brackets, of the theft's rows that were sent by then:",
        f"medians of {len(trials)} seeds (and the least and the most keys flagged by either)",
        f"{'':62}{'PRADA':>12}{'across':>12}{'either':>12}{'':14}{'own too':>12}",
    ]
    for row in results["thefts"]:
        cells = {
            name: f"{row[name]['median']:.0%} [{row[f'{name}_asked']['median']:.0%}]"
            for name in ("prada", "monitor", "either", "own")
        }
        low, high = row["either"]["low"], row["either"]["high"]
        place = f"{row['attack']:28} {row['padding']:3.0%} dummies {row['keys']:4} keys by {row['split']}"
        shown = "".join(f"{cells[name]:>12}" for name in ("prada", "monitor", "either"))
        lines.append(f"{place:62}{shown}{f'({low:.0%}, {high:.0%})':>14}{cells['own']:>12}")
    for name, what in (("monitor", "across"), ("own", "own too")):
        worst = max(row[f"harmless_by_{name}"]["high"] for row in results["thefts"])
        lines.append(f"harmless accounts beside a theft that are flagged, at most: {worst:.1%} ({what})")
    for kind in next(iter(trials))["harmless"]:
        counts = [trial["harmless"][kind] for trial in trials]
        monitor, own, prada, accounts = (
            sum(one[name] for one in counts) for name in ("monitor", "own", "prada", "accounts")
        )
        lines.append(
            f"harmless accounts, {kind}: of {accounts} flagged {prada} by PRADA, {monitor} across, {own} own too"
        )
    return "\n".join(lines)
