"""Jacobian-based dataset augmentation.

Source: Papernot, McDaniel, Goodfellow, Jha, Celik, Swami, "Practical Black-Box Attacks against Machine Learning",
AsiaCCS 2017, sections 4 (algorithm 1) and 6 (the periodic step).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from attacker.asking import some
from attacker.surrogate import family_named, new_seed, own_model
from wire import Array, BadInput, Labels, Oracle
from wire.fits import bounds
from zoo.data.pool import Pool
from zoo.families.mlp import Mlp
from zoo.network import Network
from zoo.training import Training


@dataclass(frozen=True)
class Jbda:
    """Jacobian-based augmentation: doubles a few seeds by steps along the surrogate's gradient (AsiaCCS 2017).

    In each round, the surrogate F is trained on the rows S that the oracle O has labelled so far, and each of
    these rows gives a new one: ``x + lambda_rho * sign(J_F(x)[O(x)])``, ``lambda_rho = lambda * (-1)^floor(rho /
    tau)``. All rounds together query ``seeds * 2^rounds`` rows; if the budget ends earlier, the last round queries
    a random part of its new rows. As in the paper, the surrogate learns from labels alone.

    The paper does not specify three points. Training continues from the last round's weights, as in the first
    author's code (cleverhans), from which the defaults of Adam, learning rate and batch size are taken. Steps out
    of the range of the features are clipped, since the server would refuse them. Seeds are drawn from the pool.
    The cleverhans code counts training rounds, one more than the doublings, and begins with the negative sign;
    this implementation follows the paper's formula, which begins with the positive one.

    Attributes:
        seeds: Number of rows of the pool to begin with.
        rounds: Number of doublings of the labelled set.
        step: Step size lambda, in units of a feature.
        flip: Number of rounds tau after which the step changes its sign.
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
    family: str = "mlp"
    hidden: tuple[int, ...] = (200, 200)
    epochs: int = 10
    batch: int = 128
    lr: float = 1e-3

    def __post_init__(self) -> None:
        if self.seeds < 1 or self.rounds < 0 or self.flip < 1:
            raise BadInput(f"{self}: seeds and flip must be at least 1, and rounds at least 0")

    def extract(self, oracle: Oracle, pool: Pool, rng: np.random.Generator) -> Network:
        """Repeats labelling, training and augmentation; see :class:`Extraction`."""
        family = Mlp(self.hidden) if self.family == "mlp" else family_named(self.family)
        surrogate = own_model(oracle.card, family, seed=new_seed(rng))
        training = Training(self.epochs, self.batch, self.lr, schedule="constant")
        x = pool.x[rng.permutation(len(pool))[: self.seeds]]
        labels = some(oracle, x).labels
        x = x[: len(labels)]
        for rho in range(self.rounds + 1):
            surrogate.fit(x, labels, training, seed=new_seed(rng), label=f"round {rho}")
            if oracle.ended is not None or rho == self.rounds:
                break
            new = self._augment(surrogate, x, labels, rho, *bounds(oracle.card))[rng.permutation(len(x))]
            answered = oracle.collect(new).labels
            if not len(answered):
                break
            x, labels = np.concatenate([x, new[: len(answered)]]), np.concatenate([labels, answered])
        return surrogate

    def _augment(self, surrogate: Network, x: Array, labels: Labels, rho: int, low: float, high: float) -> Array:
        """Makes one new row, ``(n, *input_shape)``, from each labelled row."""
        step = self.step * (-1) ** (rho // self.flip)
        return np.clip(x + np.float32(step) * np.sign(surrogate.gradient(x, labels)), low, high).astype(np.float32)
