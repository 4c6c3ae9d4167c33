"""Knockoff Nets with the random strategy.

Source: Orekondy, Schiele, Fritz, "Knockoff Nets: Stealing Functionality of Black-Box Models", CVPR 2019,
section 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from attacker.asking import family_named, new_seed, own_model, some
from attacker.extraction.targets import targets
from wire import Oracle
from zoo.data.pool import Pool
from zoo.network import Network
from zoo.training import Training


@dataclass(frozen=True)
class Knockoff:
    """Knockoff Nets, random strategy: a surrogate learns the answers about natural rows (CVPR 2019).

    Rows are drawn from the pool without replacement until the budget or the pool is used up; then the surrogate is
    trained on the pairs of row and answer by cross-entropy with the full answer.

    The paper's surrogate is an ImageNet-pretrained ResNet-34 that its code trains by SGD (learning rate .01,
    momentum .5, a tenth after every 60 of 100 epochs, batches of 64). Nothing is pretrained here, so the default
    is a small CNN, trained from scratch by Adam; ``--schedule step`` falls at half and three quarters of the
    epochs, not after every 60.

    Attributes:
        family: Family of the surrogate: softmax, logistic, mlp, cnn, resnet or torchvision.
        epochs: Passes over the answered rows.
        batch: Rows in one step.
        lr: Learning rate; with a schedule, the highest.
        optimizer: Adam, or stochastic gradient descent with momentum.
        momentum: Momentum of sgd.
        schedule: What the learning rate does.
    """

    family: str = "cnn"
    epochs: int = 30
    batch: int = 64
    lr: float = 4e-3
    optimizer: Literal["adam", "sgd"] = "adam"
    momentum: float = 0.5
    schedule: Literal["one_cycle", "constant", "step"] = "one_cycle"

    def extract(self, oracle: Oracle, pool: Pool, rng: np.random.Generator) -> Network:
        """Asks about random rows of the pool, each at most once, and trains; see :class:`Extraction`."""
        surrogate = own_model(oracle.card, family_named(self.family), seed=new_seed(rng))
        training = Training(
            self.epochs, self.batch, self.lr, self.optimizer, self.momentum, schedule=self.schedule
        )
        seed = new_seed(rng)
        x = pool.x[rng.permutation(len(pool))]
        answer = some(oracle, x)
        taught = targets(answer, surrogate.classes)
        return surrogate.fit(x[: len(answer)], taught, training, seed=seed, label="surrogate")
