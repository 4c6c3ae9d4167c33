"""A13: a metamodel reads off a black box's answers how it was built.

Source: Oh, Augustin, Schiele, Fritz, "Towards Reverse-Engineering Black-Box Neural Networks", ICLR 2018.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from attacker.inspection.inspection import attributes
from attacker.inspection.metamodel import Metamodel
from experiments.claims.claim import Findings, share
from experiments.lab import Lab
from wire import Array
from zoo.data import Pool
from zoo.families.mlp import Mlp
from zoo.recipe import Recipe
from zoo.sweep import train_all
from zoo.training import Training

CHOICES: Mapping[str, tuple[Any, ...]] = {
    "hidden": ((32,), (128,), (32, 32), (128, 128)),
    "optimizer": ("adam", "sgd"),
    "batch": (16, 64),
    "epochs": (5, 20),
    "schedule": ("constant", "one_cycle"),
    "weight_decay": (0.0, 1e-3),
}
"""The attributes in which the networks of the sweep differ."""


@dataclass(frozen=True)
class A13:
    """How often a metamodel tells the attributes of victims.

    Attributes:
        data: The data set.
        models: The attacker's own models.
        victims: Victims of each seed, which other rows trained.
        queries: Rows that each victim is asked about.
        hidden: Units of each of the metamodel's hidden layers.
        epochs: Passes of the metamodel over the models.
    """

    ID: ClassVar[str] = "A13"
    SAYS: ClassVar[str] = (
        "A metamodel reads architecture and training off a black box's answers to 100 rows, better than chance"
    )
    SOURCE: ClassVar[str] = "Oh et al., ICLR 2018"

    data: str = "digits"
    models: int = 300
    victims: int = 24
    queries: int = 100
    hidden: int = 1000
    epochs: int = 100

    def run(self, lab: Lab) -> Findings:
        """Trains the sweep, and asks each victim over HTTP; see :class:`~experiments.claims.claim.Claim`."""
        told, null, most = Counter[str](), Counter[str](), Counter[str]()
        trials, victims = 0, {}
        for seed in lab.seeds:
            pools, rng = lab.roles(self.data, seed), np.random.default_rng([seed, 5])
            drawn = [drawn_recipe(rng) for _ in range(self.models + self.victims)]
            own_rows, cache = _joined(pools["shadow"], pools["control"]), lab.cache
            every = [np.arange(len(own_rows))] * self.models
            own = train_all(drawn[: self.models], own_rows, every, cache, label="sweep")
            every = [np.arange(len(pools["victim"]))] * self.victims
            theirs = train_all(drawn[self.models :], pools["victim"], every, cache, label="victims")
            built = attributes([*own, *theirs])
            server = lab.serve(f"victims-{seed}", {f"victim-{i}": (m.network(), "") for i, m in enumerate(theirs)})
            meta = Metamodel(self.queries, self.hidden, self.epochs)
            x = meta.chosen(pools["pool"], rng)
            answers = [
                lab.oracle(server, f"victim-{i}", f"inspector-{i}").query(x).probs for i in range(self.victims)
            ]
            given = np.stack([probs for probs in answers if probs is not None])
            known = np.stack([model.predict(x) for model in own])
            shuffled = [built[: self.models][i] for i in rng.permutation(self.models)]
            majority = {
                name: Counter(one[name] for one in built[: self.models]).most_common(1) for name in built[0]
            }
            guesses = [{name: common[0][0] for name, common in majority.items()}] * self.victims
            truth = built[self.models :]
            _count(told, meta.read(known, built[: self.models], given, seed=seed), truth)
            _count(null, meta.read(known, shuffled, given, seed=seed), truth)
            _count(most, guesses, truth)
            trials += self.victims
            accuracies = [float((m.predict(_x(pools)).argmax(1) == pools["evaluation"].y).mean()) for m in theirs]
            victims[f"seed {seed}"] = {
                "data": self.data,
                "networks": self.victims,
                "accuracy": [min(accuracies), float(np.median(accuracies)), max(accuracies)],
            }
        where = (
            f"{self.data}, {self.models} own perceptrons, {self.queries} rows of the victim's own distribution, "
            "full answers"
        )
        rows = tuple(
            share(
                name,
                f"{where}; values {', '.join(map(str, values))}",
                "none for these attributes",
                told[name],
                trials,
                seeds=lab.seeds,
                baseline=f"majority {most[name] / trials:.1%}, shuffled {null[name] / trials:.1%}, chance "
                f"{1 / len(values):.0%}",
            )
            for name, values in CHOICES.items()
        )
        return Findings(
            rows,
            {"pool": {"is": "the pool role, of the victim's own distribution"}},
            victims,
            (
                "The paper has 11,282 convolutional networks of MNIST and twelve attributes; its "
                "accuracies are of others than these.",
                "The attacker's networks and the victims are trained on disjoint rows. 'Shuffled' is the same "
                "metamodel, trained on the attributes of other networks. Victims of a seed share the metamodel, "
                "so that the interval, which takes them as independent, is too narrow.",
            ),
        )


def drawn_recipe(rng: np.random.Generator) -> Recipe:
    """Draws a network of the sweep: each choice uniformly."""
    chosen = {name: values[rng.integers(len(values))] for name, values in CHOICES.items()}
    return Recipe(Mlp(chosen.pop("hidden")), Training(**chosen), int(rng.integers(2**31)))


def _joined(one: Pool, other: Pool) -> Pool:
    assert one.y is not None and other.y is not None
    return Pool(np.concatenate([one.x, other.x]), np.concatenate([one.y, other.y]), one.class_names)


def _x(pools: Mapping[str, Pool]) -> Array:
    return pools["evaluation"].x


def _count(hits: Counter[str], found: Sequence[Mapping[str, str]], truth: Sequence[Mapping[str, str]]) -> None:
    for said, right in zip(found, truth, strict=True):
        hits.update(name for name in right if said[name] == right[name])
