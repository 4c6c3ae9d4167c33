"""Models that an owner may suspect: thefts and copies of a victim, and models that were made without it."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from experiments.claims.removal import pruned, shaken
from experiments.studies.evasions import EVASIONS, Predict, averaged, worst_case
from owner.twins.plan import drawn
from wire import Array, BadInput, Labels
from zoo import folder
from zoo.cache import once
from zoo.data.pool import Pool
from zoo.families import NETWORKS
from zoo.families.family import Architecture
from zoo.families.logistic import Softmax
from zoo.families.mlp import Mlp
from zoo.network import Network
from zoo.recipe import Recipe, trained
from zoo.training import Training

DEFAULT = Training()
ROBUST = 0.1  # size of the perturbations of adversarial training, in the largest norm


@dataclass(frozen=True)
class Suspects:
    """Trains suspects, and finds them again in a cache.

    Attributes:
        held: The rows of each role.
        foreign: Images of another data set, of the same shape.
        family: Family of the victims and of most suspects.
        seed: The secret of victims and twins, and the seed of everything else.
        epochs: Passes of a thief over the answered rows.
        cache: Folder of trained models.
        training: Training of victims and twins.
        thief: Batch and learning rate of everything else.
        architecture: Architecture of the victims; None for the family with its defaults.
    """

    held: Mapping[str, Pool]
    foreign: Array
    family: str
    seed: int
    epochs: int
    cache: Path
    training: Training = DEFAULT
    thief: Training = DEFAULT
    architecture: Architecture | None = None

    @cached_property
    def known(self) -> Pool:
        """The rows from which victims and twins draw theirs."""
        private, unseen = self.held["victim"], self.held["unseen"]
        assert private.y is not None and unseen.y is not None
        x, y = np.concatenate([private.x, unseen.x]), np.concatenate([private.y, unseen.y])
        return dataclasses.replace(private, x=x, y=y)

    def rows(self, number: int) -> Pool:
        """Returns the rows that train a victim or twin."""
        return self.known.take(self._chosen(number))

    def unseen(self, number: int) -> Pool:
        """Returns the other rows from which those of a victim or twin were drawn, in random order."""
        rest = np.setdiff1d(np.arange(len(self.known)), self._chosen(number))
        return self.known.take(np.random.default_rng([self.seed, 3, number]).permutation(rest))

    def victim(self, number: int) -> Network:
        """Returns a victim or twin, by its number from 1."""
        seed = drawn(f"{self.seed:x}", number, 0, 0)[0]
        recipe = Recipe(self._own, self.training, seed)
        return trained(recipe, self.rows(number), self.cache, label=f"model {number}").network()

    def stolen(self, kind: str, number: int) -> Network:
        """Returns a suspect of a kind that derives from a victim.

        Kinds such as ``labels, 2500`` and ``foreign logits, 2500`` are thefts by that many rows.
        """
        answer, _, count = kind.partition(", ")
        if count.isdigit():
            return self._by_rows(number, answer, int(count))
        victim, pool = self.victim(number), self.held["pool"]
        rng = np.random.default_rng([self.seed, number])
        if kind == "itself":
            return victim
        if kind == "pruned":
            return pruned(victim, 0.6)
        if kind == "weight noise":
            return shaken(victim, 0.1, rng)
        if kind == "fine-tuned":
            assert pool.y is not None
            return self._taught(number, pool.x, pool.y, epochs=5, lr=1e-3, start=victim)
        if kind == "distilled":
            x = self.rows(number).x
            return self._taught(number, x, victim.predict(x))
        if kind == "half its rows":
            own, others = self.rows(number), self.held["pool"]
            assert own.y is not None and others.y is not None
            half = len(own) // 2
            x, y = (np.concatenate([a[:half], b[:half]]) for a, b in ((own.x, others.x), (own.y, others.y)))
            return self._taught(number, x, y)
        if kind == "other architecture":
            rows = self.rows(number)
            assert rows.y is not None
            return self._taught(number, rows.x, rows.y, family=self._other)
        if kind == "adversarial":
            return self._taught(
                number, pool.x, labels_of(victim.predict, pool.x), epochs=self.epochs, robust=ROBUST
            )
        if kind == "twice stolen":
            x = self.held["shadow"].x
            return self._taught(number, x, labels_of(self.stolen("labels", number).predict, x), epochs=self.epochs)
        x = self.foreign if kind == "foreign images" else pool.x
        answers = victim.predict(x) if kind in ("logits", "foreign images") else labels_of(victim.predict, x)
        family = self._other if kind == "other family" else ""
        return self._taught(number, x, answers, epochs=self.epochs, family=family)

    def _by_rows(self, number: int, answer: str, count: int) -> Network:
        """Returns a theft by a number of rows, or the foreign ones, by ``labels`` or by ``logits``."""
        x, predict = self.asked(number, answer, count), self.victim(number).predict
        y = labels_of(predict, x) if answer.endswith("labels") else predict(x)
        return self._taught(4000 + number, x, y, epochs=self.epochs)

    def asked(self, number: int, answer: str, count: int) -> Array:
        """Returns the rows about which a thief of :meth:`stolen` asks a victim.

        Raises:
            BadInput: He has fewer rows.
        """
        x = self.foreign if answer.startswith("foreign") else self._thiefs
        if count > len(x):
            raise BadInput(f"a thief has {len(x)} rows, not {count}")
        return np.asarray(x[np.random.default_rng([self.seed, 5, number]).permutation(len(x))[:count]])

    @cached_property
    def _thiefs(self) -> Array:
        return np.concatenate([self.held["pool"].x, self.held["shadow"].x])

    def answers(self, kind: str, number: int) -> Predict:
        """Returns the answers of a suspect that derives from a victim; some suspects change theirs to escape."""
        if kind in EVASIONS:
            return EVASIONS[kind](self.stolen("labels", number).predict, number)
        if kind == "averaged":
            x = self.held["pool"].x
            labels, seeds = labels_of(self.victim(number).predict, x), [number, 5000 + number, 6000 + number]
            return averaged([self._taught(seed, x, labels, epochs=self.epochs).predict for seed in seeds])
        return self.stolen(kind, number).predict

    def independent(self, number: int) -> tuple[str, Network]:
        """Returns a model of the victim's distribution that has nothing to do with it, and a description."""
        family = (self.family, "mlp", "softmax")[number % 3]
        role = ("control", "pool", "shadow")[number // 3 % 3]
        pool = self.held[role]
        rng = np.random.default_rng([self.seed, 1, number])
        chosen = pool.take(rng.permutation(len(pool))[: len(pool) * 4 // 5])
        assert chosen.y is not None
        return f"{family}, {role}", self._taught(1000 + number, chosen.x, chosen.y, family=family)

    def varied(self, number: int) -> tuple[str, Network]:
        """Returns one of many models that have nothing to do with a victim: other rows, sizes and shapes."""
        shapes: tuple[Architecture, ...] = (self._own, Mlp((64,)), Mlp((384,)), Mlp((128, 64)), Softmax())
        made = shapes[number % len(shapes)]
        pools = self.held["pool"], self.held["shadow"]
        assert all(pool.y is not None for pool in pools)
        y = np.concatenate([pool.y for pool in pools if pool.y is not None])
        size = len(y) // (8, 4, 2, 1)[number // len(shapes) % 4]
        chosen = np.random.default_rng([self.seed, 4, number]).permutation(len(y))[:size]
        name = f"{type(made).__name__.lower()} {getattr(made, 'hidden', ())}, {size} rows"
        return name, self._taught(7000 + number, self._thiefs[chosen], y[chosen], epochs=12, made=made)

    def control(self, number: int) -> Network:
        """Returns one of the judge's own models."""
        pool = self.held["control"]
        rng = np.random.default_rng([self.seed, 2, number])
        chosen = pool.take(rng.permutation(len(pool))[: len(pool) * 4 // 5])
        assert chosen.y is not None
        return self._taught(2000 + number, chosen.x, chosen.y)

    def comparison(self, number: int) -> Network:
        """Returns a model that was trained on the rows that its victim did not see."""
        unseen = self.unseen(number)
        assert unseen.y is not None
        return self._taught(3000 + number, unseen.x, unseen.y)

    @property
    def _own(self) -> Architecture:
        return self.architecture or NETWORKS[self.family]()

    @property
    def _other(self) -> str:
        return "cnn" if self.family == "mlp" else "mlp"

    def _chosen(self, number: int) -> Labels:
        return drawn(f"{self.seed:x}", number, len(self.known), len(self.held["victim"]))[1]

    def _taught(
        self,
        number: int,
        x: Array,
        y: Array,
        *,
        epochs: int = 8,
        lr: float | None = None,
        family: str = "",
        made: Architecture | None = None,
        start: Network | None = None,
        robust: float = 0.0,
    ) -> Network:
        made = made or (NETWORKS[family]() if family else self._own)
        training = dataclasses.replace(self.thief, epochs=epochs, lr=lr or self.thief.lr)
        seed = self.seed * 10_000 + number
        parts = [
            type(made).__name__,
            json.dumps(dataclasses.asdict(made), sort_keys=True),
            json.dumps(dataclasses.asdict(training), sort_keys=True),
            str(seed),
            "" if start is None else folder.fingerprint(start),
            *([f"robust {robust}"] if robust else []),
        ]
        digest = hashlib.sha256("\n".join(parts).encode())
        for array in (x, y):
            digest.update(np.ascontiguousarray(array).data)

        def make(path: Path) -> None:
            card = self.held["victim"].card()
            network = Network.untrained(made, card, seed=seed) if start is None else copy.deepcopy(start)
            change = worst_case(network, robust) if robust else None
            network.fit(x, y, training, seed=seed, label=f"suspect {number}", augment=change)
            folder.save(network, path)

        return folder.load(once(self.cache / "models" / digest.hexdigest()[:32], make)).network()


def labels_of(predict: Predict, x: Array) -> Labels:
    """Returns a model's labels of rows ``x``, ``(n,)``."""
    return np.asarray(predict(x).argmax(axis=1), np.int64)
