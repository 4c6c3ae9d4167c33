"""One seed of the study of sybils: a victim, its detectors, its attacks and harmless accounts."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from attacker.extraction.extraction import Extraction
from attacker.extraction.jbda import Jbda
from attacker.extraction.t_rnd import TRnd
from defenses.detectors.calibration import Calibration, in_turn
from defenses.detectors.prada import Prada
from defenses.detectors.sybils import State, Sybils
from defenses.monitoring.reference import Reference
from experiments.claims.streams import rescanned, tracks
from experiments.studies.split_theft import Rows, SplitTheft, bare, first_alarm, parts
from wire import Answer, Array, BadInput, Card, Labels, Oracle
from zoo.data import Dataset, Pool, roles
from zoo.families import FAMILIES
from zoo.recipe import Recipe, trained
from zoo.training import Training

if TYPE_CHECKING:
    from experiments.studies.sybils import Splits

_SEEDS = 100  # rows that the synthetic attacks begin with
_FRAMES = 30  # of a track
_OTHERS = 10  # harmless accounts of each unusual kind


class Trial:
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
        """Calibrates the detectors, and returns all figures."""
        control = self._accounts(self.observed(self.roles["control"].x))
        chosen, held_out = control[: len(control) * 3 // 4], control[len(control) * 3 // 4 :]
        self.monitor, monitors = self.monitor.calibrated(chosen, held_out, 0.0)
        alone = [[bare(one) for one in part] for part in (chosen, held_out)]
        self.prada, pradas = Prada(0.0).calibrated(alone[0], alone[1], 0.0)
        wanted = self.settings.accounts * self.settings.rows
        rest = self.roles["victim"].x[self.settings.trained :][:wanted]
        if len(rest) < wanted:
            raise BadInput(
                f"the victim's role has {len(rest)} rows that do not train the victim; expected {wanted}"
            )
        harmless = self._accounts(self.observed(rest))
        evaluation = self.roles["evaluation"]
        return {
            "victim_accuracy": float((self.labels(evaluation.x) == evaluation.y).mean()),
            "monitor": _calibration(monitors),
            "prada": _calibration(pradas),
            "harmless": {name: self._accused(*given) for name, given in self._unusual(harmless)},
            "thefts": list(self._thefts(harmless)),
        }

    def labels(self, x: Array) -> Labels:
        """Returns the victim's labels."""
        labels: Labels = self.victim.predict(x).argmax(axis=1)
        return labels

    def observed(self, x: Array) -> Rows:
        """Returns rows ``(n, ...)`` as the monitor observes them, and the victim's labels."""
        labels = self.labels(x)
        features = [asyncio.run(self.reference.features(part, labels)) for part in parts(x, 1000)]
        return np.concatenate(features), labels

    def _accounts(self, rows: Rows) -> list[Rows]:
        whole = len(rows[1]) // self.settings.rows * self.settings.rows
        x, labels = (parts(part[:whole], self.settings.rows) for part in rows)
        return list(zip(x, labels, strict=True))

    def _unusual(self, harmless: list[Rows]) -> Iterator[tuple[str, tuple[list[Rows], int]]]:
        """Yields kinds of harmless accounts: name, accounts, and how many of these, the last ones, are of it."""
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
            unusual = self._accounts(self.observed(rows))
            yield name, (harmless + unusual, len(unusual))

    def _accused(self, accounts: list[Rows], last: int) -> dict[str, int]:
        """Counts the flagged accounts among the last ones."""
        rows, names = in_turn(accounts)
        numbers = range(len(accounts) - last, len(accounts))
        counts = {"accounts": last}
        for name, monitor in (("monitor", self.monitor), ("own", replace(self.monitor, own=True))):
            found = monitor.observe(State(), rows, np.zeros(len(rows), np.int64), names).alarms
            counts[name] = sum(str(number) in found for number in numbers)
        alone = [first_alarm(self.prada, bare(accounts[number])) for number in numbers]
        return {**counts, "prada": sum(row is not None for row in alone)}

    def _thefts(self, harmless: list[Rows]) -> Iterator[tuple[tuple[Any, ...], dict[str, float]]]:
        """Yields attack, padding, split and number of keys, with the figures."""
        pool = self.roles["pool"]
        mine, rest = pool.take(slice(self.settings.theft)), pool.x[self.settings.theft :]
        rounds = max(0, math.floor(math.log2(self.settings.theft / _SEEDS)))
        attacks: dict[str, Extraction | Array] = {
            "jbda": Jbda(_SEEDS, rounds),
            "t_rnd": TRnd(_SEEDS, rounds, lrs=(1e-3,), epochs=(20,), search_every=0),
            "knockoff, same distribution": mine.x,
            "knockoff, other images": self.foreign,
        }
        dummies = self.observed(np.concatenate([rest, self.roles["shadow"].x]))
        with tqdm(total=len(attacks) * len(self.settings.padding), unit="stream", leave=False) as bar:
            for name, attack in attacks.items():
                theft = self.observed(attack if isinstance(attack, np.ndarray) else self._asked(attack, mine))
                for padding in self.settings.padding:
                    bar.set_postfix_str(f"{name}, {padding:.0%} dummies")
                    stream = SplitTheft(self.rng, theft, dummies, harmless, padding)
                    for figures in stream.figures(self.monitor, self.prada, self.settings.keys):
                        yield (name, padding, *figures[0]), figures[1]
                    bar.update()

    def _asked(self, attack: Extraction, pool: Pool) -> Array:
        """Runs an attack; returns the rows that it queried, in order."""
        asked: list[Array] = []

        def transport(x: Array) -> Answer:
            asked.append(np.rint(x * 255).astype(np.float32) / np.float32(255))
            probs = self.victim.predict(asked[-1])
            return Answer(probs.argmax(axis=1), probs)

        card = Card("victim", pool.input_shape, len(pool.class_names), low=0.0, high=1.0)
        attack.extract(Oracle(transport, card), pool, np.random.default_rng(self.seed))
        return np.concatenate(asked)


def _calibration(found: Calibration) -> dict[str, float]:
    figures = found._asdict()
    return {"chosen": figures.pop("delta"), **figures}
