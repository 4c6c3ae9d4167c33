"""Knockoff Nets, with the random and the adaptive strategy.

Source: Orekondy, Schiele, Fritz, "Knockoff Nets: Stealing Functionality of Black-Box Models", CVPR 2019,
section 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from attacker.asking import some
from attacker.extraction.bandit import ClassPolicy
from attacker.extraction.targets import targets
from attacker.surrogate import class_names, family_named, fitted, new_seed, numbers, own_model
from wire import Array, BadInput, Oracle
from zoo.augment import Augment
from zoo.data.pool import Pool
from zoo.families import FAMILIES, NETWORKS
from zoo.model import Model
from zoo.training import Training

REWARDS = ("certainty", "diversity", "loss")


@dataclass(frozen=True)
class Knockoff:
    """Knockoff Nets: trains a surrogate on the victim's answers to natural rows (CVPR 2019).

    Rows are drawn from the pool without replacement until the budget or the pool is used up. Then the surrogate is
    trained on the pairs of row and answer, by cross-entropy with the full answer.

    The random strategy draws rows uniformly. The adaptive strategy draws a class z of the pool from a policy, then
    a row of that class, and rewards z according to the answer: for certainty (the margin between the two largest
    probabilities), for diversity (the amount by which probabilities exceed their mean over past answers) and for a
    high loss of an online surrogate. Class names such as ``animal/dog`` form a tree of classes, with a policy at
    each node.

    The paper does not specify how the loss is scaled to [0, 1]; here, the loss of a uniform guess, or more, is 1.
    To save requests, rows are drawn in rounds with a fixed policy, which then learns from all their answers. After
    each round, the online surrogate makes one pass over the last ``window`` answers, at a quarter of ``lr``.

    The paper's surrogate is an ImageNet-pretrained ResNet-34, which the authors' code trains by SGD (learning rate
    .01, momentum .5, a tenth after every 60 of 100 epochs, batches of 64). Nothing is pretrained here, so the
    default is a small CNN, trained from scratch by Adam; ``--schedule step`` drops at half and three quarters of
    the epochs, not after every 60.

    Attributes:
        family: Family of the surrogate: softmax, logistic, mlp, cnn, resnet or torchvision; or svm, tree, forest,
            gbdt, knn or, for texts, tfidf, which learn from labels alone and in which every class must occur.
        epochs: Passes over the answered rows.
        batch: Rows per step.
        lr: Learning rate; with a schedule, its maximum.
        optimizer: Adam, or stochastic gradient descent with momentum.
        momentum: Momentum of sgd.
        schedule: Learning rate schedule.
        shift: Most pixels by which images are shifted at random in each step of training.
        flip: Whether images are also flipped horizontally at random.
        strategy: How rows are drawn; the adaptive strategy needs the pool's labels.
        reward: Reward of the adaptive strategy; all is the sum of the other three.
        round: Rows that the adaptive strategy draws before it updates its policy.
        window: Number of past answers Delta over which rewards are averaged.
    """

    family: str = "cnn"
    epochs: int = 30
    batch: int = 64
    lr: float = 4e-3
    optimizer: Literal["adam", "sgd"] = "adam"
    momentum: float = 0.5
    schedule: Literal["one_cycle", "constant", "step"] = "one_cycle"
    shift: int = 0
    flip: bool = False
    strategy: Literal["random", "adaptive"] = "random"
    reward: Literal["all", "certainty", "diversity", "loss"] = "all"
    round: int = 64
    window: int = 500

    def __post_init__(self) -> None:
        if self.round < 1 or self.window < 1:
            raise BadInput(f"{self}: round and window must be at least 1")
        if self.family not in FAMILIES:
            raise BadInput(f"there is no family {self.family!r}; expected one of {', '.join(FAMILIES)}")
        if self.family not in NETWORKS and self.strategy == "adaptive":
            raise BadInput(
                f"{self.family} cannot be trained as answers come; the adaptive strategy needs a network"
            )

    def extract(self, oracle: Oracle, pool: Pool, rng: np.random.Generator) -> Model:
        """Queries rows of the pool, each at most once, and trains the surrogate; see :class:`Extraction`.

        Raises:
            BadInput: The strategy is adaptive, and the pool has no labels, or the family cannot take its rows.
        """
        if self.family not in NETWORKS:
            x = pool.x[rng.permutation(len(pool))]
            y = targets(some(oracle, x), len(class_names(oracle.card)))
            return fitted(oracle.card, self.family, x[: len(y)], y, seed=new_seed(rng), label="surrogate")
        numbers(pool.x)
        surrogate = own_model(oracle.card, family_named(self.family), seed=new_seed(rng))
        training = Training(
            self.epochs, self.batch, self.lr, self.optimizer, self.momentum, schedule=self.schedule
        )
        seed = new_seed(rng)
        if self.strategy == "adaptive":
            x, y = self._adaptive(oracle, pool, rng)
        else:
            x = pool.x[rng.permutation(len(pool))]
            y = targets(some(oracle, x), surrogate.classes)
        changes = Augment(self.shift, self.flip)
        return surrogate.fit(x[: len(y)], y, training, seed=seed, label="surrogate", augment=changes)

    def _adaptive(self, oracle: Oracle, pool: Pool, rng: np.random.Generator) -> tuple[Array, Array]:
        """Draws rows from a policy over the pool's classes; returns rows and the victim's answers, ``(n, k)``."""
        learner = own_model(oracle.card, family_named(self.family), seed=new_seed(rng))
        online = Training(1, self.batch, self.lr / 4, schedule="constant")
        policy = ClassPolicy(pool, rng)
        x, y, r = list[Array](), list[Array](), list[Array]()
        while len(policy) and oracle.ended is None:
            z, chosen = policy.draw(self.round)
            queries = pool.x[chosen]
            answers = targets(oracle.collect(queries) if x else some(oracle, queries), learner.classes)
            for z_t, x_t, y_t, guess in zip(z, queries, answers, learner.predict(queries), strict=False):
                r_t = rewards(y_t, guess, y[-self.window :])
                policy.update(z_t, self.advantage(r_t, r[-self.window :]))
                x.append(x_t)
                y.append(y_t)
                r.append(r_t)
            recent = slice(-self.window, None)
            learner.fit(np.stack(x[recent]), np.stack(y[recent]), online, seed=new_seed(rng), label="policy")
        return np.stack(x), np.stack(y)

    def advantage(self, r_t: Array, past: Sequence[Array]) -> float:
        """Returns the sum of the enabled rewards, ``(3,)``, each minus its mean over past answers."""
        counted = [self.reward in ("all", name) for name in REWARDS]
        return float((r_t - np.mean(past or [r_t], axis=0))[counted].sum())


def rewards(y_t: Array, guess: Array, past: Sequence[Array]) -> Array:
    """Returns an answer's rewards for certainty, diversity and loss, each between 0 and 1, ``(3,)``.

    Args:
        y_t: The victim's answer, ``(k,)``.
        guess: The surrogate's answer, ``(k,)``.
        past: The victim's past answers, ``(k,)`` each.
    """
    second, first = np.sort(y_t)[-2:]
    diversity = np.maximum(0, y_t - np.mean(past or [0 * y_t], axis=0)).sum()
    loss = -(y_t * np.log(np.maximum(guess, 1e-7))).sum()
    return np.array([first - second, diversity, min(loss / np.log(len(y_t)), 1)])
