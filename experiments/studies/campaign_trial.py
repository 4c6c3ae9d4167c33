"""One seed of the study of campaigns: a victim, its detectors, the log, and what each detector says of it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from attacker.extraction.extraction import Extraction
from attacker.extraction.jbda import Jbda
from attacker.extraction.t_rnd import TRnd
from attacker.surrogate import family_named, own_model
from defenses import Campaign, Hoda, Mmd, Ood, Prada, Sybils
from defenses.detectors.calibration import Calibration, in_order
from defenses.detectors.detector import Alarm
from defenses.monitoring.recent import Recent
from defenses.monitoring.reference import Reference
from experiments.claims.streams import rescanned, tracks
from experiments.metrics import agreement
from experiments.studies import campaign_log
from experiments.studies.campaign_log import (
    KINDS,
    LINKS,
    Stream,
    by_kind,
    outcome,
    places,
    places_together,
)
from server.deployment.models import load_all
from server.settings import DEFAULT, read_settings
from wire import Answer, Array, BadInput, Card, Labels, Oracle
from zoo import folder
from zoo.data import Dataset, Pool, roles
from zoo.families import FAMILIES
from zoo.network import Network
from zoo.recipe import Recipe, trained
from zoo.training import Training

if TYPE_CHECKING:
    from experiments.studies.campaigns import Campaigns

ATTACKS = ("jbda", "t_rnd", "knockoff, own distribution", "knockoff, foreign images")
ALONE = ("prada", "hoda", "ood", "mmd")  # detectors that watch each account alone
_SEEDS = 100  # rows that the synthetic attacks begin with
_PART = 1000  # rows whose features are computed together


class Trial:
    """One seed: its victim, its detectors, its harmless accounts and its thefts."""

    def __init__(
        self, settings: Campaigns, seed: int, own: Dataset, foreign: Pool, cache: Path, work: Path
    ) -> None:
        self.settings, self.seed, self.rng, self.work = settings, seed, np.random.default_rng(seed), work
        self.roles = roles.draw(own, seed)
        taught = self.roles["victim"].take(slice(settings.trained))
        self.family = FAMILIES[settings.family]()
        recipe = Recipe(self.family, Training(epochs=settings.epochs, checkpoints=11), seed)
        self.victim = trained(recipe, taught, cache, label="victim").network()
        order = self.rng.permutation(len(foreign))
        assert foreign.y is not None
        known = foreign.y[order] < foreign.y.max() // 2 + 1  # the owner's filter learns from these classes only
        self.foreign = foreign.x[order[~known]][: settings.theft]
        if self.foreign.shape[1:] != taught.input_shape:
            raise BadInput(f"{settings.foreign} has images of another shape than {settings.dataset}")
        self.filter = self._filter(taught, foreign.x[order[known]], cache)

    def run(self) -> dict[str, Any]:
        """Returns all figures of the seed."""
        images = self._images()
        self.x = np.concatenate(list(images.values()))
        ends = np.cumsum([len(x) for x in images.values()])
        self.rows = {
            name: np.arange(end - len(x), end) for (name, x), end in zip(images.items(), ends, strict=True)
        }
        self.detectors = self._detectors()
        self.features = asyncio.run(self._observed())
        accounts = self.settings.accounts
        chosen, held_out = (
            campaign_log.customers(
                self.rng,
                {kind: self.rows[f"{kind}, {half}"] for kind in ("own", "scanner", "films")},
                self.truth[half],
                accounts,
                half,
            )
            for half in ("chosen", "held out")
        )
        calibrations = self._calibrate(chosen, held_out)
        harmless = self._accused(held_out)
        evaluation = self.roles["evaluation"]
        return {
            "victim_accuracy": float((self.labels_of(evaluation.x) == evaluation.y).mean()),
            "calibrations": calibrations,
            "harmless": harmless,
            "curves": {attack: self._curve(attack) for attack in ATTACKS},
            "thefts": list(self._thefts(held_out)),
        }

    def labels_of(self, x: Array) -> Labels:
        """Returns the victim's labels."""
        labels: Labels = self.victim.predict(x).argmax(axis=1)
        return labels

    def _filter(self, taught: Pool, others: Array, cache: Path) -> Path:
        """Trains the binary classifier of ``ood``; returns its folder."""
        x = np.concatenate([taught.x[: 2 * len(others)], others])
        y = (np.arange(len(x)) >= len(x) - len(others)).astype(np.int64)
        recipe = Recipe(self.family, Training(epochs=3), self.seed)
        made = trained(recipe, Pool(x, y, ("own", "others")), cache, label="filter")
        folder.save(made, self.work / f"filter-{self.seed}")
        return self.work / f"filter-{self.seed}"

    def _images(self) -> dict[str, Array]:
        """Returns the images that anybody sends, by their source."""
        settings, frames = self.settings, 30
        own = {
            "chosen": self.roles["control"],
            "held out": self.roles["victim"].take(slice(settings.trained, None)),
        }
        found, self.truth = {}, {}
        for half, pool in own.items():
            x, filmed = pool.x[: settings.images], pool.x[settings.images :][: settings.films]
            if len(filmed) < settings.films or pool.y is None:
                raise BadInput(
                    f"there are {len(pool)} labelled images; expected {settings.images + settings.films}"
                )
            self.truth[half] = pool.y[: settings.images]
            found[f"own, {half}"] = x
            found[f"scanner, {half}"] = rescanned(x[: settings.images // 2])
            found[f"films, {half}"] = tracks(self.rng, filmed, frames)
        found["dummies"] = self.roles["shadow"].x[: settings.images]
        mine = self.roles["pool"].take(slice(settings.theft))
        rounds = max(0, math.floor(math.log2(settings.theft / _SEEDS)))
        kind = settings.family
        t_rnd = TRnd(_SEEDS, rounds, lrs=(1e-3,), epochs=(20,), search_every=0, family=kind)
        found["jbda"] = self._asked(Jbda(_SEEDS, rounds, family=kind), mine)
        found["t_rnd"] = self._asked(t_rnd, mine)
        found["knockoff, own distribution"] = mine.x
        found["knockoff, foreign images"] = self.foreign
        return found

    def _asked(self, attack: Extraction, pool: Pool) -> Array:
        """Runs an attack; returns the rows that it queried, in order."""
        asked: list[Array] = []

        def transport(x: Array) -> Answer:
            asked.append(np.rint(x * 255).astype(np.float32) / np.float32(255))
            probs = self.victim.predict(asked[-1])
            return Answer(probs.argmax(axis=1), probs)

        attack.extract(Oracle(transport, self._card()), pool, np.random.default_rng(self.seed))
        return np.concatenate(asked)[: self.settings.theft]

    def _card(self) -> Card:
        pool = self.roles["pool"]
        return Card("victim", pool.input_shape, len(pool.class_names), low=0.0, high=1.0)

    def _detectors(self) -> dict[str, Any]:
        unseen, near = self.roles["unseen"], self.work / f"near-{self.seed}.npz"
        file = self.work / f"unseen-{self.seed}.npz"
        unseen.save(file)
        half = self.settings.window
        Pool(np.concatenate([unseen.x[:half], rescanned(unseen.x[half : half + half // 2])])).save(near)
        return {
            "prada": Prada(**Prada.uncalibrated),
            "hoda": Hoda(**Hoda.uncalibrated),
            "ood": Ood(self.filter, **Ood.uncalibrated),
            "mmd": Mmd(file, **Mmd.uncalibrated),
            "campaign": Campaign(file, **Campaign.uncalibrated),
            "sybils": Sybils(near, **Sybils.uncalibrated, window=self.settings.window),
        }

    async def _observed(self) -> dict[str, Array]:
        """Returns what each detector observes of all images."""
        folder.save(self.victim, self.work / f"victim-{self.seed}")
        settings = read_settings(
            None,
            state=self.work,
            plans=DEFAULT["plans"],
            victims=[{"name": "victim", "folder": self.work / f"victim-{self.seed}"}],
        )
        served = load_all(settings)["victim"]
        self.labels = self.labels_of(self.x)
        found = {"prada": np.rint(self.x.reshape(len(self.x), -1) * 255).astype(np.uint8)}
        functions = {
            name: await self.detectors[name].featurizer(served.companions, served.card)
            for name in ("hoda", "ood", "mmd")
        }
        functions["sybils"] = Reference(self.detectors["sybils"].reference, self.x.shape[1:]).features
        for name, features in functions.items():
            parts = []
            for at in tqdm(range(0, len(self.x), _PART), desc=name, unit="part", leave=False):
                parts.append(await features(self.x[at : at + _PART], self.labels[at : at + _PART]))
            found[name] = np.concatenate(parts)
        return {**found, "campaign": found["mmd"]}

    def _of(self, name: str, stream: Stream) -> tuple[Any, ...]:
        """Returns a stream as a detector observes it."""
        observed = self.features[name][stream.rows], self.labels[stream.rows]
        return (*observed, stream.sent) if name == "campaign" else observed

    def _few(self, streams: Sequence[Stream]) -> list[Stream]:
        """Returns the first accounts of each kind, for ``sybils``, which compares each row with a window."""
        return [one for kind in KINDS for one in [s for s in streams if s.kind == kind][: self.settings.few]]

    def _calibrate(self, chosen: Sequence[Stream], held_out: Sequence[Stream]) -> dict[str, Any]:
        """Chooses the thresholds so that none of the chosen accounts is accused."""
        found: dict[str, Any] = {}
        for name in [*ALONE, "campaign", "sybils"]:
            streams = [self._few(of) if name == "sybils" else of for of in (chosen, held_out)]
            given = [[self._of(name, stream) for stream in of] for of in streams]
            try:
                self.detectors[name], made = self.detectors[name].calibrated(*given, 0.0)
            except BadInput as error:  # some harmless traffic looks like what it is made to find
                del self.detectors[name]
                found[name] = {"failed": str(error)}
                continue
            found[name] = _figures(made) | {
                field: getattr(self.detectors[name], field) for field in type(self.detectors[name]).uncalibrated
            }
        return found

    def _alone(self, name: str, stream: Stream) -> Alarm | None:
        """Returns the alarm of a detector that watches each account alone."""
        detector = self.detectors[name]
        state = detector.observe(detector.begin(), *self._of(name, stream))
        alarm: Alarm | None = state.alarm
        return alarm

    def _accused(self, held_out: Sequence[Stream]) -> dict[str, dict[str, Any]]:
        """Counts the held-out harmless accounts that each detector accuses, by kind."""
        accused = {
            name: {i for i, stream in enumerate(held_out) if self._alone(name, stream) is not None}
            for name in ALONE
        }
        accused["campaign"] = set(
            map(int, self.detectors["campaign"].accused([self._of("campaign", s) for s in held_out]))
        )
        accused["together"] = set().union(*accused.values())
        found = {name: by_kind(held_out, numbers) for name, numbers in accused.items()}
        if "sybils" in self.detectors:
            few = self._few(held_out)
            alarms = self.detectors["sybils"].accused([self._of("sybils", stream) for stream in few])
            found["sybils"] = by_kind(few, set(map(int, alarms)))
        return found

    def _curve(self, attack: str) -> dict[int, float]:
        """Returns the agreement of a surrogate by the number of rows that taught it."""
        rows, test = self.rows[attack], self.roles["evaluation"].x
        answers, truth = self.victim.predict(self.x[rows]), self.labels_of(test)
        found = {}
        for n in [size for size in self.settings.sizes if size < len(rows)] + [len(rows)]:
            surrogate: Network = own_model(self._card(), family_named(self.settings.family), seed=self.seed)
            training = Training(self.settings.surrogate_epochs)
            surrogate.fit(self.x[rows[:n]], answers[:n], training, seed=self.seed, label="surrogate")
            found[n] = agreement(surrogate.predict(test).argmax(axis=1), truth).rate
        return found

    def _thefts(self, held_out: list[Stream]) -> Iterator[dict[str, Any]]:
        """Yields each way of stealing with what each detector finds."""
        kept = self.settings.accounts // 4
        beside = [one for kind in KINDS for one in [s for s in held_out if s.kind == kind][:kept]]
        for attack in tqdm(ATTACKS, unit="attack", leave=False):
            for share in self.settings.shares:
                for accounts in self.settings.keys:
                    alone: dict[bool, dict[str, dict[int, Alarm]]] = {}
                    for links in LINKS if accounts > 1 else LINKS[:1]:
                        yield self._theft(attack, share, accounts, links, beside, alone)

    def _theft(
        self,
        attack: str,
        share: float,
        accounts: int,
        links: str,
        beside: list[Stream],
        alone: dict[bool, dict[str, dict[int, Alarm]]],
    ) -> dict[str, Any]:
        rng = np.random.default_rng([self.seed, ATTACKS.index(attack), round(100 * share), accounts])
        settings = self.settings
        streams, of, real = campaign_log.theft(
            rng, self.rows[attack], self.rows["dummies"], share, accounts, links, settings.most
        )
        apart = links == "apart"
        if apart not in alone:
            alone[apart] = {
                name: {
                    i: alarm
                    for i, stream in enumerate(streams)
                    if len(stream.rows) >= 100 and (alarm := self._alone(name, stream)) is not None
                }
                for name in ALONE
            }
        begin, end = min(s.times[0] for s in streams), max(s.times[-1] for s in streams)
        others = list(campaign_log.during(beside, begin - 3600, end))
        together = [*streams, *others]
        refused = {name: places(alarms, of) for name, alarms in alone[apart].items()}
        stream = in_order([self._of("campaign", one) for one in together])
        refused["campaign"], accused = places_together(self.detectors["campaign"], stream, accounts)
        rows = list(refused.values())
        refused["together"] = {i: min(row[i] for row in rows if i in row) for i in set().union(*rows)}
        if "sybils" in self.detectors and links == LINKS[0]:
            refused["sybils"] = places(self._sybils(together, accounts), of)
        return {
            "attack": attack,
            "share": share,
            "accounts": accounts,
            "links": links,
            "sent": len(of),
            "hours": round((end - begin) / 3600, 2),
            "beside": len(others),
            "beside_accused": accused,
            "found": {name: outcome(row, of, real, accounts) for name, row in refused.items()},
        }

    def _sybils(self, streams: list[Stream], accounts: int) -> dict[int, Alarm]:
        """Returns the alarms of thieves' accounts by ``sybils``."""
        monitor = self.detectors["sybils"]
        order = np.argsort(np.concatenate([stream.times for stream in streams]), kind="stable")
        rows = np.concatenate([stream.rows for stream in streams])[order]
        names = np.repeat([str(i) for i in range(len(streams))], [len(s.rows) for s in streams])[order].tolist()
        nearest = Recent().take(self.features["sybils"][rows], names, monitor.window)
        state = monitor.weigh(monitor.begin(), names, nearest)
        return {int(i): alarm for i, alarm in state.alarms.items() if int(i) < accounts}


def _figures(made: Calibration) -> dict[str, Any]:
    figures = made._asdict()
    return {"accused": figures["accused"], "streams": figures["streams"]}
