"""The court: a victim and its twins, the judge's independent models, and the models of an accuser."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional

from experiments.claims.independent import SMALL, labels_of
from experiments.claims.removal import pruned, quantised, shaken, tuned
from experiments.lab import Lab
from experiments.studies.evasions import Predict, averaged, worst_case
from owner.twins.twins import answering
from wire import Array, Card, Labels, Oracle
from zoo.data import Pool
from zoo.families.mlp import Mlp
from zoo.network import Network
from zoo.training import Training


@dataclass(frozen=True)
class Sizes:
    """The sizes of a court.

    Attributes:
        rows: Rows that train a victim.
        hidden: Widths of its hidden layers; it is an MLP on pixels.
        training: The training of victims and twins.
        twins: Number of twins, M.
        stolen: Rows about which a thief asks.
        thief: A thief's training on the answers.
        tuning: Training by which a thief of the weights fine-tunes them.
        tuning_rows: Its rows.
        robust: Greatest change of a pixel in a thief's adversarial training.
        references: Number of the accuser's own models, trained on the accuser's rows.
        own_training: Their training.
        radius: Greatest change of a pixel when the accuser makes images that transfer between models.
        step: Step size of that attack.
        steps: Number of its steps.
        candidates: Images that the accuser tries.
        secrets: Number of secrets that the accuser draws, to commit to the best one by the accuser's models.
        marked_secrets: The same for radioactive data, where each secret is expensive.
    """

    rows: int = 5000
    hidden: tuple[int, ...] = (128,)
    training: Training = field(default_factory=lambda: Training(epochs=24, batch=128, lr=4e-3))
    twins: int = 15
    stolen: int = 5000
    thief: Training = field(default_factory=lambda: Training(epochs=12, batch=128, lr=4e-3))
    tuning: Training = field(default_factory=lambda: Training(8, 128, 1e-3, schedule="constant"))
    tuning_rows: int = 2500
    robust: float = 0.1
    references: int = 6
    own_training: Training = field(default_factory=lambda: Training(epochs=8, batch=128, lr=4e-3))
    radius: float = 16 / 255
    step: float = 0.01
    steps: int = 40
    candidates: int = 1000
    secrets: int = 64
    marked_secrets: int = 8


class Verdict(NamedTuple):
    """Whether a suspect is accused.

    Attributes:
        published: By the published rule.
        compared: By comparison with the judge's own models, whatever the published rule says.
        judged: By the judge: by both, or by wrong keys where there are any.
        counted: By the judge, with the p-value multiplied by the number of commitments.
        unkeyed: By both with counted commitments, where there are wrong keys but nobody asks about them.
    """

    published: bool
    compared: bool
    judged: bool
    counted: bool
    unkeyed: bool


def verdict(published: bool, compared: bool, counted: bool, keyed: Sequence[bool] = ()) -> Verdict:
    """Returns a verdict.

    Args:
        published: By the published rule.
        compared: By the comparison with the judge's own models.
        counted: By the same with counted commitments.
        keyed: By wrong keys, without and with counted commitments, if there are any.
    """
    both = bool(published and compared), bool(published and counted)
    judged, sure = map(bool, keyed or both)
    return Verdict(bool(published), bool(compared), judged, sure, both[1])


NEVER = verdict(False, False, False)
Accusation = Callable[[Predict], Verdict]


@dataclass(frozen=True, eq=False)
class Scheme:
    """An ownership scheme, as an honest owner and as a cheating accuser use it.

    Attributes:
        name: Its name.
        source: Its publication.
        honest: The honest owner's accusation.
        picked: The accusation by a cheating accuser with freely chosen rows, labels or models.
        derived: The accusation by a cheating accuser whose rows follow from a committed secret, the best of many.
        suspects: Returns the stolen models, by kind of theft.
        queries: Rows that a suspect is asked about, at most.
        shown: Rows of the owner's training set among them.
        cost: Change of the victim's test accuracy; negative if the scheme lowers it.
        costly: Whether queries are so many that only the first independent models are tested.
    """

    name: str
    source: str
    honest: Accusation
    picked: Accusation
    derived: Accusation
    suspects: Callable[[], Iterable[tuple[str, Predict]]]
    queries: int
    shown: int
    cost: float
    costly: bool = False


@dataclass(frozen=True, eq=False)
class Court:
    """The models of one seed.

    Attributes:
        lab: Trains the models, and caches them.
        sizes: The sizes.
        held: The rows of each role.
        seed: Seed of victim, thieves and accuser.
        judges: The judge's own models.
    """

    lab: Lab
    sizes: Sizes
    held: dict[str, Pool]
    seed: int
    judges: Sequence[Network]
    _made: dict[int, list[tuple[str, Predict]]] = field(default_factory=dict, init=False, repr=False)

    def rng(self, use: str) -> np.random.Generator:
        """Returns a source of randomness for one use."""
        return np.random.default_rng([self.seed, 29, *use.encode()])

    @cached_property
    def known(self) -> Pool:
        """The rows from which victim and twins draw theirs."""
        pool = self.held["victim"]
        return pool.take(self.rng("known").permutation(len(pool))[: self.sizes.rows * 5 // 4])

    def drawn(self, number: int) -> Labels:
        """Returns the rows of a twin, or of the victim, which is number 0."""
        return self.rng(f"twin {number}").permutation(len(self.known))[: self.sizes.rows]

    @cached_property
    def private(self) -> Pool:
        """The rows that train the victim."""
        return self.known.take(self.drawn(0))

    @cached_property
    def unseen(self) -> Pool:
        """The rows from which the victim's were drawn, without these."""
        return self.known.take(np.setdiff1d(np.arange(len(self.known)), self.drawn(0)))

    @cached_property
    def twins(self) -> list[Network]:
        """The victim without a mark, and its twins."""
        return [
            self.trained(self.known.take(self.drawn(number)), 100 * self.seed + number)
            for number in range(1 + self.sizes.twins)
        ]

    @property
    def victim(self) -> Network:
        """The victim without a mark."""
        return self.twins[0]

    @cached_property
    def own(self) -> list[Network]:
        """The accuser's models."""
        shadow, made = self.held["shadow"], []
        for number in range(self.sizes.references):
            rows = self.rng(f"own {number}").permutation(len(shadow))[: self.sizes.rows]
            family = SMALL[number % len(SMALL)]
            made.append(
                self.lab.train(shadow.take(rows), self.seed, family=family, training=self.sizes.own_training)
            )
        return made

    @cached_property
    def poor(self) -> list[Network]:
        """Three models trained on too few rows, which the accuser presents as independent models."""
        shadow = self.held["shadow"]
        return [
            self.lab.train(
                shadow.take(slice(50 * n, 50 * n + 50)), n, family=SMALL[0], training=Training(epochs=2)
            )
            for n in range(3)
        ]

    @cached_property
    def asked(self) -> Array:
        """The rows about which a thief asks."""
        pool = self.held["pool"]
        return pool.take(self.rng("thief").permutation(len(pool))[: self.sizes.stolen]).x

    @property
    def card(self) -> Card:
        """The card of all models."""
        return self.victim.card()

    def trained(self, pool: Pool, seed: int) -> Network:
        """Trains a model as victims are trained."""
        return self.lab.train(pool, seed, family=Mlp(self.sizes.hidden), training=self.sizes.training)

    def oracle(self, predict: Predict) -> Oracle:
        """Returns an oracle of a model in this process."""
        return Oracle(answering(predict), self.card)

    def oracles(self, models: Sequence[Network]) -> dict[str, Oracle]:
        """Returns oracles of models, by number."""
        return {str(number): self.oracle(model.predict) for number, model in enumerate(models)}

    def copies(self, victim: Network) -> Iterator[tuple[str, Predict]]:
        """Yields the models that a thief of the weights makes, with their kinds."""
        tuning = self.held["pool"].take(slice(self.sizes.tuning_rows))
        yield "itself", victim.predict
        for name, last, fresh in (
            ("fine-tuned", False, False),
            ("last layer anew", True, True),
            ("last layer anew, all tuned", False, True),
        ):
            made = tuned(victim, tuning, self.sizes.tuning, self.seed, last=last, fresh=fresh)
            yield name, made.predict
        yield "pruned by 60 %", pruned(victim, 0.6).predict
        yield "weight noise of 0.25", shaken(victim, 0.25, self.rng("noise")).predict
        yield "4 bits a weight", quantised(victim, 4).predict

    def thefts(self, served: Predict) -> Iterator[tuple[str, Predict]]:
        """Yields the models that thieves train on a served model's answers, with their kinds."""
        x, probs = self.asked, served(self.asked)
        labels = np.asarray(probs.argmax(axis=1), np.int64)
        yield "probabilities", self.taught(x, probs, 1).predict
        first = self.taught(x, labels, 2)
        yield "labels", first.predict
        other = self.held["shadow"].take(slice(self.sizes.stolen)).x
        yield "labels, stolen twice", self.taught(other, labels_of(first, other), 3).predict
        yield (
            "labels, three copies",
            averaged([first.predict, *(self.taught(x, labels, n).predict for n in (4, 5))]),
        )
        yield "labels, adversarial training", self.taught(x, labels, 6, robust=self.sizes.robust).predict
        agreed = np.mean([self.taught(x[n::2], labels[n::2], 7 + n).predict(x) for n in (0, 1)], axis=0)
        kept = agreed.argmax(axis=1) == labels
        yield "labels, filtered and retrained", self.taught(x[kept], labels[kept], 9).predict

    def suspects(self, victim: Network) -> list[tuple[str, Predict]]:
        """Returns the copies and thefts of a victim, made once."""
        if id(victim) not in self._made:
            self._made[id(victim)] = [*self.copies(victim), *self.thefts(victim.predict)]
        return self._made[id(victim)]

    def taught(self, x: Array, y: Array, number: int, robust: float = 0.0) -> Network:
        """Trains a thief's model on answers."""
        seed = 10_000 + 100 * self.seed + number
        made = Network.untrained(Mlp(self.sizes.hidden), self.card, seed=seed)
        change = worst_case(made, robust) if robust else None
        return made.fit(x, y, self.sizes.thief, seed=seed, label="thief", augment=change)

    @cached_property
    def picked(self) -> tuple[Array, Labels]:
        """Perturbed images, and the wrong labels that the accuser's models return for them."""
        pool = self.held["pool"].take(slice(self.sizes.candidates))
        assert pool.y is not None
        target = (pool.y + self.rng("targets").integers(1, self.card.classes, len(pool))) % self.card.classes
        x = transferable(self.own, pool.x, target, self.sizes)
        agreed = np.mean([labels_of(model, x) == target for model in self.own], axis=0)
        loss = np.mean(
            [-np.log(np.maximum(m.predict(x)[np.arange(len(x)), target], 1e-9)) for m in self.own], axis=0
        )
        best = np.lexsort((loss, -agreed))[:100]
        return x[best], target[best]

    def surer(self, pool: Pool) -> Pool:
        """Returns labelled images, perturbed so that the accuser's models are surer of their labels."""
        assert pool.y is not None
        return replace(pool, x=transferable(self.own, pool.x, pool.y, self.sizes))


def transferable(models: Sequence[Network], x: Array, target: Labels, sizes: Sizes) -> Array:
    """Perturbs rows towards given labels of several models: iterative fast gradient signs on their mean loss.

    Args:
        models: The models.
        x: Rows from 0 to 1, ``(n, *shape)``.
        target: The label of each.
        sizes: Has ``radius``, ``step`` and ``steps``.
    """
    start, labels = torch.from_numpy(x), torch.from_numpy(np.asarray(target, np.int64))
    moved = start.clone()
    for _ in range(sizes.steps):
        moved.requires_grad_()
        loss = torch.stack([functional.cross_entropy(model.module(moved), labels) for model in models]).mean()
        (gradient,) = torch.autograd.grad(loss, moved)
        moved = (moved - sizes.step * gradient.sign()).detach()
        moved = torch.minimum(torch.maximum(moved, start - sizes.radius), start + sizes.radius).clamp(0, 1)
    return np.asarray((torch.round(moved * 255) / 255).numpy())
