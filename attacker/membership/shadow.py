"""Membership inference with shadow models and an attack model per class.

Source: Shokri, Stronati, Song, Shmatikov, "Membership Inference Attacks Against Machine Learning Models",
IEEE S&P 2017, sections V (the attack) and VIII-A (victims that disclose less).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from attacker.membership.match_policy import disclose, features
from attacker.membership.membership import ask
from attacker.surrogate import class_names, family_named, new_seed
from wire import Array, BadInput, Card, Labels, Oracle
from zoo.cache import state_folder
from zoo.data.pool import Pool
from zoo.families.mlp import Mlp
from zoo.model import Model
from zoo.network import Network
from zoo.recipe import Recipe, trained
from zoo.training import Training


class Split(NamedTuple):
    """Indices of the rows that a shadow model is trained on, and of as many that it is not trained on."""

    members: Array
    others: Array


@dataclass(frozen=True)
class Shadow:
    """Shadow models: learns to recognise members from the attacker's own models (S&P 2017).

    Each shadow model is trained on a random part of the shadow pool; another part of the same size serves as its
    non-members. The parts of different shadow models overlap. The shadow models' answers to these rows, with the
    true label and "in" or "out", form the attack set. It is split by true label, and each class has its own attack
    model: a fully connected network with one hidden layer of 64 ReLU units and a softmax. A candidate's score is
    the probability of "in" by the attack model of its class.

    As in the paper's experiments with victims that disclose less, the shadow models' probabilities are reduced to
    what the victim's answers disclose: the k largest with the others at 0, rounded ones, or only a label.

    The defaults are those of the functions in an author's code (csong27/membership-inference), which its command
    line overrides (10 shadow models, 50 epochs), except for the learning rate of the shadow models: that code uses
    .05 for a hidden layer of tanh units. The paper's shadow models have the victim's architecture and number of
    training rows; an attacker who knows neither must choose them.

    Attributes:
        shadows: Number of shadow models.
        size: Number of members of each shadow model, and of its non-members; by default half of the shadow pool.
        family: Family of the shadow models: softmax, logistic, mlp, cnn, resnet or torchvision.
        epochs: Passes of a shadow model over its rows.
        batch: Rows per training step of a shadow model.
        lr: Learning rate of the shadow models (Adam).
        l2: Weight decay of all shadow and attack models.
        attack_epochs: Passes of an attack model over its part of the attack set.
        attack_batch: Rows per training step of an attack model.
        attack_lr: Learning rate of the attack models (Adam).
        state: Folder that keeps shadow models for later runs; default: MLAAS_STATE, or ./state.
    """

    shadows: int = 20
    size: int | None = None
    family: str = "cnn"
    epochs: int = 100
    batch: int = 100
    lr: float = 1e-3
    l2: float = 1e-7
    attack_epochs: int = 50
    attack_batch: int = 200
    attack_lr: float = 0.01
    state: Path | None = None

    def __post_init__(self) -> None:
        if self.shadows < 1 or (self.size is not None and self.size < 1):
            raise BadInput(f"{self}: shadows and size must be at least 1")

    def infer(self, oracle: Oracle, x: Array, y: Labels, shadow: Pool, rng: np.random.Generator) -> Array:
        """Returns the probability of "in" by the attack model of each candidate's class; see :class:`Membership`.

        Raises:
            BadInput: The shadow pool is too small, or a class of the candidates is missing from the shadow models.
        """
        probs, labels, member = self._outputs(oracle.card, shadow, self._splits(shadow, y, rng), rng)
        answered, answer = ask(oracle, x, rng)
        answers = features(disclose(probs, answer), probs.shape[1])
        victim_answers, victim_labels = features(answer, probs.shape[1]), y[answered]
        scores = np.full(len(x), np.nan)
        for label in np.unique(victim_labels):
            attack = self._attack_model(answers[labels == label], member[labels == label], rng, f"class {label}")
            rows = victim_labels == label
            scores[answered[rows]] = attack.predict(victim_answers[rows])[:, 1]
        return scores

    def _splits(self, shadow: Pool, y: Labels, rng: np.random.Generator) -> list[Split]:
        """Draws the members and non-members of each shadow model."""
        size = len(shadow) // 2 if self.size is None else self.size
        if shadow.y is None or not 1 <= size <= len(shadow) // 2:
            raise BadInput(
                f"shadow models with {max(size, 1)} training rows need a shadow pool of at least "
                f"{2 * max(size, 1)} labelled rows, not {len(shadow)}"
            )
        orders = [rng.permutation(len(shadow)) for _ in range(self.shadows)]
        splits = [Split(order[:size], order[size : 2 * size]) for order in orders]
        missed = np.setdiff1d(y, shadow.y[np.concatenate([rows for split in splits for rows in split])])
        if len(missed):
            raise BadInput(f"the shadow models' rows have no row of class {', '.join(map(str, missed))}")
        return splits

    def _outputs(
        self, card: Card, shadow: Pool, splits: list[Split], rng: np.random.Generator
    ) -> tuple[Array, Labels, Labels]:
        """Trains the shadow models, and queries each with its members and non-members.

        Returns:
            The probabilities, ``(m, k)``; the true labels, ``(m,)``; 1 for members, else 0, ``(m,)``.
        """
        assert shadow.y is not None
        probs, labels, member = [], [], []
        for number, split in enumerate(splits, 1):
            model = self._shadow_model(card, shadow.take(split.members), rng, f"shadow {number}/{len(splits)}")
            for inside, rows in ((1, split.members), (0, split.others)):
                probs.append(model.predict(shadow.x[rows]))
                labels.append(shadow.y[rows])
                member.append(np.full(len(rows), inside, np.int64))
        return np.concatenate(probs), np.concatenate(labels), np.concatenate(member)

    def _shadow_model(self, card: Card, members: Pool, rng: np.random.Generator, label: str) -> Model:
        training = Training(self.epochs, self.batch, self.lr, weight_decay=self.l2, schedule="constant")
        recipe = Recipe(family_named(self.family), training, new_seed(rng))
        named = replace(members, class_names=class_names(card))
        return trained(recipe, named, state_folder(self.state), label=label)

    def _attack_model(self, answers: Array, member: Labels, rng: np.random.Generator, label: str) -> Network:
        """Trains the attack model of one class, which recognises members by their answers."""
        training = Training(
            self.attack_epochs, self.attack_batch, self.attack_lr, weight_decay=self.l2, schedule="constant"
        )
        model = Network.new(Mlp((64,)), answers.shape[1:], ("out", "in"), seed=new_seed(rng))
        return model.fit(answers, member, training, seed=new_seed(rng), label=label)
