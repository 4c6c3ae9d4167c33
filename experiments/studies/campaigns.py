"""Campaigns on one log: ``python -m experiments campaigns``.

Harmless customers of seven kinds and thefts ask one victim, and six detectors watch: four that see each account
alone, and two that see all accounts together. All thresholds are chosen on harmless accounts, so that none of
these is accused, and judged on others, about other images.

The rows of a theft do not depend on who sends them, as long as the answers are the same. So each theft runs once,
and its rows are then sent by one account or by many that take turns, alone or among harmless rows, with more and
less in common. An account is refused from its alarm on; what the others still send is not changed by that.

An adaptive thief knows the detector and its settings. He rehearses all ways of sending on victims of his own (the
other seeds), and takes the cheapest one that no alarm stopped there.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from experiments.header import header
from experiments.studies.campaign_log import KINDS, LINKS
from experiments.studies.campaign_trial import ALONE, ATTACKS, Trial
from zoo.data import load
from zoo.exact_interval import exact_interval

DETECTORS = (*ALONE, "campaign", "together")


@dataclass(frozen=True)
class Campaigns:
    """A comparison of detectors on one log.

    Attributes:
        dataset: The victim's data set, of grey images.
        foreign: Data set of natural images of the same shape that are not like the victim's.
        accounts: Harmless accounts of each kind, to choose thresholds on, and as many others to judge them.
        few: Accounts of each kind for sybils, whose time grows with the log.
        images: Images of the own distribution that the accounts of either half send.
        films: Films of 30 frames each.
        theft: Rows of a theft, at most.
        most: Rows of a theft with its dummies, at most.
        keys: Numbers of a thief's accounts.
        shares: Shares of harmless rows among a thief's.
        trained: Rows that the victim is trained on.
        epochs: Passes over them.
        family: Family of the victim, of the filter of ood, and of surrogates.
        sizes: Numbers of rows after which a surrogate is measured.
        surrogate_epochs: Passes over a surrogate's rows.
        window: Rows that sybils compares with.
        price: Price of a row.
    """

    dataset: str = "fashion_mnist"
    foreign: str = "mnist_digits"
    accounts: int = 60
    few: int = 8
    images: int = 2500
    films: int = 60
    theft: int = 1600
    most: int = 3000
    keys: tuple[int, ...] = (1, 25, 1000)
    shares: tuple[float, ...] = (0.0, 0.5, 0.9)
    trained: int = 10_000
    epochs: int = 8
    family: str = "mlp"
    sizes: tuple[int, ...] = (100, 200, 400, 800)
    surrogate_epochs: int = 20
    window: int = 1000
    price: float = 0.0001

    def run(
        self, seeds: Sequence[int], data: Path | None, cache: Path, write: Callable[[dict[str, Any]], None]
    ) -> dict[str, Any]:
        """Runs all seeds, and writes all figures so far after each; returns all, behind the header."""
        head, start = header(asdict(self), seeds=seeds), time.process_time()
        own, foreign = load(self.dataset, data, cache), load(self.foreign, data, cache)
        trials, results = {}, head
        with tempfile.TemporaryDirectory(prefix="mlaas-campaigns-") as work:
            for seed in tqdm(seeds, unit="seed"):
                trials[str(seed)] = Trial(self, seed, own, foreign.pool, cache, Path(work)).run()
                results = {**head, "cpu_seconds": round(time.process_time() - start), "trials": trials}
                write(results)
        return results


def table(results: Mapping[str, Any]) -> str:
    """Formats results for a person, as tables of Markdown."""
    trials = list(results["trials"].values())
    return "\n\n".join([_harmless(trials), _thefts(trials), _adaptive(trials, results["settings"])])


def _harmless(trials: Sequence[Mapping[str, Any]]) -> str:
    names = [name for name in (*DETECTORS, "sybils") if any(name in trial["harmless"] for trial in trials)]
    lines = [
        "| harmless accounts accused (95 % interval) | " + " | ".join(names) + " |",
        "|---" * (len(names) + 1) + "|",
    ]
    for kind in KINDS:
        cells = []
        for name in names:
            counts = [trial["harmless"][name][kind] for trial in trials if name in trial["harmless"]]
            accused, of = (sum(column) for column in zip(*counts, strict=True))
            _, low, high = exact_interval(accused, of)
            cells.append(f"{accused} of {of} ({low:.1%}-{high:.1%})")
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _place(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return row["attack"], row["share"], row["accounts"], row["links"]


def _agreement(curve: Mapping[Any, float], rows: float) -> float:
    """Returns the agreement of a surrogate after so many rows, between those that were measured."""
    sizes, values = zip(*((int(size), value) for size, value in curve.items()), strict=True)
    return float(np.interp(np.log(max(1.0, rows)), np.log(sizes), values))


def _thefts(trials: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        "Rows of all accounts until the first alarm (median of the seeds that have one), [seeds with an alarm], "
        "and agreement at the alarm -> at the end, if accused accounts are refused:",
        "",
        "| theft | " + " | ".join(DETECTORS) + " | sybils |",
        "|---" * (len(DETECTORS) + 2) + "|",
    ]
    for rows in zip(*(trial["thefts"] for trial in trials), strict=True):
        attack, share, accounts, links = _place(rows[0])
        cells = []
        for name in (*DETECTORS, "sybils"):
            found = [
                (row["found"][name], trial["curves"][attack])
                for row, trial in zip(rows, trials, strict=True)
                if name in row["found"]
            ]
            cells.append(_cell(found) if found else "")
        lines.append(
            f"| {attack}, {share:.0%} harmless, {accounts} accounts, {links} | " + " | ".join(cells) + " |"
        )
    return "\n".join(lines)


def _cell(found: Sequence[tuple[Mapping[str, Any], Mapping[Any, float]]]) -> str:
    alarms = [(one, curve) for one, curve in found if one["rows"] is not None]
    end = np.mean([_agreement(curve, one["told"]) for one, curve in found])
    if not alarms:
        return f"- [0] {end:.0%}"
    first = np.mean([_agreement(curve, one["real"]) for one, curve in alarms])
    return f"{np.median([one['rows'] for one, _ in alarms]):.0f} [{len(alarms)}] {first:.0%} -> {end:.0%}"


def adapted(trials: Sequence[Mapping[str, Any]], attack: str, name: str, seed: int) -> tuple[Any, ...] | None:
    """Returns the cheapest way of sending a theft that raised no alarm of a detector in the other seeds.

    Args:
        trials: The trials of all seeds.
        attack: The theft.
        name: The detector.
        seed: Index of the seed at which the thief will use it.

    Returns:
        The share of dummies, the number of accounts and the links; None if every way raised an alarm.
    """
    ways: dict[tuple[Any, ...], bool] = {}
    others = [trial for index, trial in enumerate(trials) if index != seed] or trials  # of one seed, in hindsight
    for trial in others:
        for row in trial["thefts"]:
            if row["attack"] == attack:
                way = _place(row)[1:]
                ways[way] = ways.get(way, True) and row["found"][name]["rows"] is None
    free = [way for way, quiet in ways.items() if quiet]
    return min(free, key=lambda way: (way[0], way[1], LINKS.index(way[2])), default=None)


def _adaptive(trials: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> str:
    lines = [
        "The cheapest way that raised no alarm in the other seeds (of one seed, in hindsight), and where it held:",
        "",
        "| theft | " + " | ".join(DETECTORS) + " |",
        "|---" * (len(DETECTORS) + 1) + "|",
    ]
    for attack in ATTACKS:
        cells = []
        for name in DETECTORS:
            ways = [adapted(trials, attack, name, seed) for seed in range(len(trials))]
            held = [
                way is not None
                and next(row for row in trial["thefts"] if _place(row) == (attack, *way))["found"][name]["rows"]
                is None
                for way, trial in zip(ways, trials, strict=True)
            ]
            known = [way for way in ways if way is not None]
            if not known:
                cells.append("none")
                continue
            share, accounts, links = known[0]
            money, kept = settings["theft"] / (1 - share) * settings["price"], f"{sum(held)} of {len(held)}"
            cells.append(f"{share:.0%} harmless, {accounts} accounts, {links}: {money:.2f}, held in {kept}")
        lines.append(f"| {attack} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
