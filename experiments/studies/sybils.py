"""Thefts that are split over many keys: ``python -m experiments sybils``.

What an attack asks about does not depend on which key asks, as long as the answers are the same. So each attack
runs once against its victim, in this process; its rows are then split over k keys, in turns (row i to key i mod
k), at random, or so that each class has keys of its own, and put among the rows of harmless accounts in random
order. Of a padded theft a share of each key's rows are dummies: harmless rows that nobody else asks about. All
rows are images of 8 bits, so an attack's rows are rounded on their way.

Told are the share of keys that are accused, by PRADA, which watches each key alone, by the monitor across
accounts, by either, and by the monitor where it counts rows near a key's own too, and the share of the theft's
rows that its keys have asked about by then.
"""

from __future__ import annotations

import asyncio
import math
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from attacker.extraction.extraction import Extraction
from attacker.extraction.jbda import Jbda
from attacker.extraction.t_rnd import TRnd
from benchmarks.measure import spread
from defenses.detectors.calibration import Calibration, in_turn
from defenses.detectors.prada import Prada
from defenses.detectors.sybils import State, Sybils
from defenses.monitoring.recent import Nearest, Recent
from defenses.monitoring.reference import Reference
from defenses.monitoring.reference import split as split_features
from experiments.claims.streams import rescanned, tracks
from experiments.header import header
from wire import Answer, Array, BadInput, Card, Labels, Oracle
from zoo.data import Dataset, Pool, load, roles
from zoo.families import FAMILIES
from zoo.recipe import Recipe, trained
from zoo.training import Training

_PART = 100  # rows after which PRADA is asked whether it goes on
_SEEDS = 100  # rows that the synthetic attacks begin with
_FRAMES = 30  # of a track
_OTHERS = 10  # harmless accounts of each unusual kind
_SPLITS = ("turns", "random", "class")

Told = tuple[Array, Labels]
"""Rows as the monitor notes them, ``(n, d + 4)``, and what the victim says of them, ``(n,)``."""


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
        """Runs all seeds; returns what is written down of them."""
        head, start = header(asdict(self), seeds=seeds), time.process_time()
        own, foreign = load(self.dataset, data, cache), load(self.foreign, data, cache)
        trials = {}
        with tempfile.TemporaryDirectory(prefix="mlaas-sybils-") as work:
            for seed in tqdm(seeds, unit="seed"):
                trials[seed] = _Trial(self, seed, own, foreign.pool, cache, Path(work)).run()
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


class _Trial:
    """One seed: its victim, detectors, attacks and harmless accounts."""

    def __init__(self, settings: Splits, seed: int, own: Dataset, foreign: Pool, cache: Path, work: Path) -> None:
        self.settings, self.seed, self.rng = settings, seed, np.random.default_rng(seed)
        self.roles = roles.draw(own, seed)
        self.foreign = foreign.x[self.rng.permutation(len(foreign))[: settings.theft]]
        if self.foreign.shape[1:] != self.roles["pool"].input_shape:
            raise BadInput(f"{settings.foreign} has images of another shape than {settings.dataset}")
        taught = self.roles["victim"].take(slice(settings.trained))
        recipe = Recipe(FAMILIES["cnn"](), Training(epochs=settings.epochs), seed)
        self.victim = trained(recipe, taught, cache, label="victim").network()
        self.roles["unseen"].save(work / f"{seed}.npz")
        self.reference = Reference(work / f"{seed}.npz", self.roles["unseen"].input_shape)
        self.monitor = Sybils(
            work / f"{seed}.npz", **Sybils.uncalibrated, share=settings.share, window=settings.window
        )

    def run(self) -> dict[str, Any]:
        """Calibrates the detectors, and returns all that was found."""
        control = self._accounts(self.told(self.roles["control"].x))
        chosen, held_out = control[: len(control) * 3 // 4], control[len(control) * 3 // 4 :]
        self.monitor, monitors = self.monitor.calibrated(chosen, held_out, 0.0)
        bare = [[_bare(one) for one in part] for part in (chosen, held_out)]
        self.prada, pradas = Prada(0.0).calibrated(bare[0], bare[1], 0.0)
        wanted = self.settings.accounts * self.settings.rows
        rest = self.roles["victim"].x[self.settings.trained :][:wanted]
        if len(rest) < wanted:
            raise BadInput(f"the victim's role has {len(rest)} rows that it is not taught; expected {wanted}")
        harmless = self._accounts(self.told(rest))
        evaluation = self.roles["evaluation"]
        return {
            "victim_accuracy": float((self.labels(evaluation.x) == evaluation.y).mean()),
            "monitor": _calibration(monitors),
            "prada": _calibration(pradas),
            "harmless": {name: self._accused(*given) for name, given in self._unusual(harmless)},
            "thefts": list(self._thefts(harmless)),
        }

    def labels(self, x: Array) -> Labels:
        """Returns what the victim says."""
        labels: Labels = self.victim.predict(x).argmax(axis=1)
        return labels

    def told(self, x: Array) -> Told:
        """Returns rows ``(n, ...)`` as the monitor observes them, and the victim's labels."""
        labels = self.labels(x)
        features = [asyncio.run(self.reference.features(part, labels)) for part in _parts(x, 1000)]
        return np.concatenate(features), labels

    def _accounts(self, told: Told) -> list[Told]:
        whole = len(told[1]) // self.settings.rows * self.settings.rows
        noted, labels = (_parts(part[:whole], self.settings.rows) for part in told)
        return list(zip(noted, labels, strict=True))

    def _unusual(self, harmless: list[Told]) -> Iterator[tuple[str, tuple[list[Told], int]]]:
        """Yields accounts, and how many of them, the last ones, are of the kind that is named."""
        yield "same distribution", (harmless, len(harmless))
        x, n = self.roles["evaluation"].x, self.settings.rows
        popular = self.rng.integers(min(len(x), 300), size=_OTHERS * n)
        films = tracks(self.rng, x[: _OTHERS * math.ceil(n / _FRAMES)], _FRAMES)
        films = films.reshape(_OTHERS, -1, *x.shape[1:])[:, :n].reshape(-1, *x.shape[1:])
        kinds = {
            "copies of 300 public images": x[popular],
            f"a film each, {_FRAMES} frames a scene": films,
            "one other scanner for all": rescanned(x[self.rng.permutation(len(x))[: _OTHERS * n]]),
        }
        for name, rows in kinds.items():
            unusual = self._accounts(self.told(rows))
            yield name, (harmless + unusual, len(unusual))

    def _accused(self, accounts: list[Told], last: int) -> dict[str, int]:
        """Counts those accused among the last accounts."""
        rows, names = in_turn(accounts)
        numbers = range(len(accounts) - last, len(accounts))
        counts = {"accounts": last}
        for name, monitor in (("monitor", self.monitor), ("own", replace(self.monitor, own=True))):
            found = monitor.observe(State(), rows, np.zeros(len(rows), np.int64), names).alarms
            counts[name] = sum(str(number) in found for number in numbers)
        alone = [_alone(self.prada, _bare(accounts[number])) for number in numbers]
        return {**counts, "prada": sum(row is not None for row in alone)}

    def _thefts(self, harmless: list[Told]) -> Iterator[tuple[tuple[Any, ...], dict[str, float]]]:
        """Yields attack, padding, split and number of keys, and what became of it."""
        pool = self.roles["pool"]
        mine, rest = pool.take(slice(self.settings.theft)), pool.x[self.settings.theft :]
        rounds = max(0, math.floor(math.log2(self.settings.theft / _SEEDS)))
        attacks: dict[str, Extraction | Array] = {
            "jbda": Jbda(_SEEDS, rounds),
            "t_rnd": TRnd(_SEEDS, rounds, lrs=(1e-3,), epochs=(20,)),
            "knockoff, same distribution": mine.x,
            "knockoff, other images": self.foreign,
        }
        dummies = self.told(np.concatenate([rest, self.roles["shadow"].x]))
        with tqdm(total=len(attacks) * len(self.settings.padding), unit="stream", leave=False) as bar:
            for name, attack in attacks.items():
                theft = self.told(attack if isinstance(attack, np.ndarray) else self._asked(attack, mine))
                for padding in self.settings.padding:
                    bar.set_postfix_str(f"{name}, {padding:.0%} dummies")
                    stream = _Stream(self.rng, theft, dummies, harmless, padding)
                    for figures in stream.figures(self.monitor, self.prada, self.settings.keys):
                        yield (name, padding, *figures[0]), figures[1]
                    bar.update()

    def _asked(self, attack: Extraction, pool: Pool) -> Array:
        """Runs an attack; returns the rows that it asked about, in order."""
        asked: list[Array] = []

        def transport(x: Array) -> Answer:
            asked.append(np.rint(x * 255).astype(np.float32) / np.float32(255))
            probs = self.victim.predict(asked[-1])
            return Answer(probs.argmax(axis=1), probs)

        card = Card("victim", pool.input_shape, len(pool.class_names), low=0.0, high=1.0)
        attack.extract(Oracle(transport, card), pool, np.random.default_rng(self.seed))
        return np.concatenate(asked)


class _Stream:
    """The rows of a theft, its dummies and harmless accounts, in one order for all splits."""

    def __init__(
        self, rng: np.random.Generator, theft: Told, dummies: Told, harmless: list[Told], padding: float
    ) -> None:
        count = round(len(theft[1]) * padding / (1 - padding))
        if count > len(dummies[1]):
            raise BadInput(f"{padding:.0%} of padding takes {count} dummies; there are {len(dummies[1])}")
        self.rng, self.theft, self.others = rng, theft, len(harmless)
        parts = [theft, (dummies[0][:count], dummies[1][:count]), *harmless]
        times = [np.sort(rng.random(len(labels))) for _, labels in parts]
        self.order = np.argsort(np.concatenate(times), kind="stable")
        self.rows = np.concatenate([noted for noted, _ in parts])[self.order]
        self.labels = np.concatenate([labels for _, labels in parts])[self.order]
        self.sizes = [len(labels) for _, labels in parts]

    def figures(
        self, monitor: Sybils, prada: Prada, keys: Sequence[int]
    ) -> Iterator[tuple[tuple[str, int], dict[str, float]]]:
        """Yields each split and number of keys, and what became of it."""
        names = [str(number) for number in range(len(self.rows))]  # so each row's owner is the row itself
        nearest = Recent().take(self.rows, names, monitor.window)
        for k in keys:
            for split in _SPLITS if k > 1 else _SPLITS[:1]:
                yield (split, k), self._figures(monitor, prada, nearest, k, split)

    def _figures(self, monitor: Sybils, prada: Prada, nearest: Nearest, k: int, split: str) -> dict[str, float]:
        thieves = split_over(split, self.theft[1], k, self.rng)
        dummies = thieves[self.rng.integers(len(thieves), size=self.sizes[1])]
        others = np.repeat(np.arange(k, k + self.others), self.sizes[2:])
        of = np.concatenate([thieves, dummies, others])[self.order]
        alarms = []
        for by in (monitor, replace(monitor, own=True)):
            state = by.weigh(
                by.begin(), list(map(str, of)), nearest._replace(owners=of[nearest.owners], senders=of)
            )
            alarms.append({int(name): alarm.row for name, alarm in state.alarms.items()})
        across, own = alarms
        ends: dict[str, list[int | None]] = {"prada": [], "monitor": [], "either": [], "own": []}
        asked = dict.fromkeys(ends, 0)
        for key in np.unique(thieves).tolist():
            mine = np.flatnonzero(of == key)
            alone = _alone(prada, (split_features(self.rows[mine])[0], self.labels[mine]))
            first = min((row for row in (alone, across.get(key)) if row is not None), default=None)
            for name, row in zip(ends, (alone, across.get(key), first, own.get(key)), strict=True):
                ends[name].append(row)
                asked[name] += int((self.order[mine[:row]] < len(thieves)).sum())
        return {
            **{name: float(np.mean([row is not None for row in rows])) for name, rows in ends.items()},
            **{f"{name}_asked": rows / len(thieves) for name, rows in asked.items()},
            "harmless_by_monitor": sum(number >= k for number in across) / self.others,
            "harmless_by_own": sum(number >= k for number in own) / self.others,
        }


def split_over(split: str, labels: Labels, k: int, rng: np.random.Generator) -> Array:
    """Returns the key of each row of a theft, ``(n,)``.

    Args:
        split: ``turns``, ``random``, or ``class``: those of a class have keys that no other class has, or, where
            there are fewer keys than classes, one key.
        labels: The rows' classes, ``(n,)``.
        k: Number of keys.
        rng: Draws, if it is random.
    """
    if split == "turns":
        return np.arange(len(labels)) % k
    if split == "random":
        return rng.integers(k, size=len(labels))
    classes = int(labels.max()) + 1
    keys = np.empty(len(labels), np.int64)
    for label in range(classes):
        mine = np.flatnonzero(labels == label)
        own = np.arange(label % k, k, classes) if k > classes else np.array([label % k])
        keys[mine] = own[np.arange(len(mine)) % len(own)]
    return keys


def _alone(prada: Prada, rows: Told) -> int | None:
    """Returns the row after which PRADA accuses an account, None if it never does."""
    state = prada.begin()
    for part, labels in zip(_parts(rows[0], _PART), _parts(rows[1], _PART), strict=True):
        state = prada.observe(state, part, labels)
        if state.alarm is not None:
            return state.alarm.row
    return None


def _bare(told: Told) -> Told:
    return split_features(told[0])[0], told[1]


def _parts(x: Array, size: int) -> list[Array]:
    return [x[i : i + size] for i in range(0, len(x), size)]


def _calibration(found: Calibration) -> dict[str, float]:
    told = found._asdict()
    return {"chosen": told.pop("delta"), **told}


def table(results: Mapping[str, Any]) -> str:
    """Returns what a person reads of a run's results."""
    trials = results["trials"].values()
    lines = [
        "share of the keys that are accused, and in brackets of the theft's rows that were asked about by then:",
        f"medians of {len(trials)} seeds (and the least and the most keys accused by either)",
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
        lines.append(f"harmless accounts beside a theft that are accused, at most: {worst:.1%} ({what})")
    for kind in next(iter(trials))["harmless"]:
        counts = [trial["harmless"][kind] for trial in trials]
        monitor, own, prada, accounts = (
            sum(one[name] for one in counts) for name in ("monitor", "own", "prada", "accounts")
        )
        lines.append(
            f"harmless accounts, {kind}: of {accounts} accused {prada} by PRADA, {monitor} across, {own} own too"
        )
    return "\n".join(lines)
