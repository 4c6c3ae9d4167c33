"""Jacobian-based dataset augmentation.

Source: Papernot, McDaniel, Goodfellow, Jha, Celik, Swami, "Practical Black-Box Attacks against Machine Learning",
AsiaCCS 2017, sections 4 (algorithm 1) and 6 (the periodic step, reservoir sampling).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from attacker.asking import some
from attacker.surrogate import family_named, new_seed, numbers, own_model
from wire import Array, BadInput, Labels, Oracle
from wire.fits import bounds
from zoo.data.pool import Pool
from zoo.families.mlp import Mlp
from zoo.network import Network
from zoo.training import Training


@dataclass(frozen=True)
class Jbda:
    """Jacobian-based augmentation: doubles a few seeds by steps along the surrogate's gradient (AsiaCCS 2017).

    In each round, the surrogate is trained on the rows S that the oracle O has labelled so far, and each of these
    rows gives a new one: ``x + lambda * sign(J_F(x)[O(x)])``, where lambda changes its sign after every ``flip``
    rounds. All rounds together query ``seeds * 2^rounds`` rows; if the budget ends earlier, the last round queries
    a random part of its new rows. With a ``reservoir``, rounds from ``sigma`` on draw only that many rows of S at
    random, each equally likely, so that all rounds together query ``seeds * 2^sigma + reservoir * (rounds -
    sigma)`` rows (section 6). As in the paper, the surrogate learns from labels alone.

    Where the paper is silent or differs from the first author's code (cleverhans), the code is followed: the first
    steps lead away from the row's class, where the paper's formula leads towards it and the victim's answer hardly
    ever changes; J_F is the gradient of the class's logit, which does not vanish where the surrogate is certain;
    training continues from the last round's weights; Adam, learning rate and batch size are the code's. Three
    points are ours. Steps out of the range of the features are clipped, since the server would refuse them. Seeds
    are drawn from the pool. The default surrogate is a CNN, as a thief would choose for images; the code has an
    MLP of two hidden layers.

    Two settings are controls, to tell how much of the surrogate's agreement the victim's answers are worth.
    ``--answers parent`` queries the seeds alone, and gives each new row the label of the row that it came from.
    ``--direction random`` steps along random signs.

    Attributes:
        seeds: Number of rows of the pool to begin with.
        rounds: Number of rounds that add rows, rho.
        step: Step size, the absolute value of lambda, in units of a feature.
        flip: Number of rounds tau after which the step changes its sign; above ``rounds``, it never does.
        first: Whether the first steps lead away from the row's class or towards it.
        reservoir: Number of rows that each round from ``sigma`` on augments, kappa; none: all of them.
        sigma: Number of rounds that augment all rows, if there is a reservoir.
        direction: What the steps follow: the surrogate's gradient, or random signs.
        answers: Whether the oracle labels the new rows, or each takes its parent's label without being asked.
        family: Family of the surrogate: softmax, logistic, mlp, cnn, resnet or torchvision.
        hidden: Widths of the hidden layers, if the family is mlp.
        epochs: Passes over the labelled rows in each round.
        batch: Rows per training step.
        lr: Learning rate of Adam.
    """

    seeds: int = 150
    rounds: int = 6
    step: float = 0.1
    flip: int = 3
    first: Literal["away", "towards"] = "away"
    reservoir: int | None = None
    sigma: int = 3
    direction: Literal["gradient", "random"] = "gradient"
    answers: Literal["oracle", "parent"] = "oracle"
    family: str = "cnn"
    hidden: tuple[int, ...] = (200, 200)
    epochs: int = 10
    batch: int = 128
    lr: float = 1e-3

    def __post_init__(self) -> None:
        if self.seeds < 1 or self.rounds < 0 or self.flip < 1:
            raise BadInput(f"{self}: seeds and flip must be at least 1, and rounds at least 0")
        if self.sigma < 0 or (self.reservoir is not None and self.reservoir < 1):
            raise BadInput(f"{self}: reservoir must be at least 1, and sigma at least 0")

    def extract(self, oracle: Oracle, pool: Pool, rng: np.random.Generator) -> Network:
        """Repeats labelling, training and augmentation; see :class:`Extraction`."""
        family = Mlp(self.hidden) if self.family == "mlp" else family_named(self.family)
        surrogate = own_model(oracle.card, family, seed=new_seed(rng))
        training = Training(self.epochs, self.batch, self.lr, schedule="constant")
        x = numbers(pool.x)[rng.permutation(len(pool))[: self.seeds]]
        labels = some(oracle, x).labels
        x = x[: len(labels)]
        for rho in range(self.rounds + 1):
            surrogate.fit(x, labels, training, seed=new_seed(rng), label=f"round {rho}")
            if oracle.ended is not None or rho == self.rounds:
                break
            parents = rng.permutation(len(x))[: self.reservoir if rho >= self.sigma else None]
            new = self._augment(surrogate, x[parents], labels[parents], rho, bounds(oracle.card), rng)
            answered = oracle.collect(new).labels if self.answers == "oracle" else labels[parents]
            if not len(answered):
                break
            x, labels = np.concatenate([x, new[: len(answered)]]), np.concatenate([labels, answered])
        return surrogate

    def _augment(
        self,
        surrogate: Network,
        x: Array,
        labels: Labels,
        rho: int,
        span: tuple[float, float],
        rng: np.random.Generator,
    ) -> Array:
        """Makes one new row, ``(n, *input_shape)``, from each of these."""
        if self.direction == "random":
            signs = rng.choice(np.array([-1, 1], np.float32), x.shape)
        else:
            signs = np.sign(surrogate.gradient(x, labels))
        towards = (self.first == "towards") == (rho // self.flip % 2 == 0)
        return np.clip(x + np.float32(self.step if towards else -self.step) * signs, *span).astype(np.float32)
