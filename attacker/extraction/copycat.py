"""Copycat CNN.

Source: Correia-Silva, Berriel, Badue, de Souza, Oliveira-Santos, "Copycat CNN: Stealing Knowledge by Persuading
Confession with Random Non-Labeled Data", IJCNN 2018.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from attacker.asking import some
from attacker.surrogate import family_named, new_seed, numbers, own_model
from wire import Array, BadInput, Labels, Oracle
from zoo.augment import Augment
from zoo.data.pool import Pool
from zoo.network import Network
from zoo.training import Training


@dataclass(frozen=True)
class Copycat:
    """Copycat CNN: trains a surrogate on the labels that the victim gives to unrelated images (IJCNN 2018).

    Rows of the pool are queried in random order, whatever they show, and only labels are used. Classes that the
    victim gives rarely are repeated in the training set, so that all classes have as many rows; then the surrogate
    is trained on randomly shifted and flipped copies.

    The paper has up to three million images of other problems, and finds that more of them replace images of the
    victim's own. Its surrogate, a VGG-16, starts from ImageNet weights; nothing is pretrained here. Its copies are
    made before training by a library of 22 changes; here, each step changes its rows anew by shifts and flips.

    Attributes:
        family: Family of the surrogate: softmax, logistic, mlp, cnn, resnet or torchvision.
        epochs: Passes over the training set.
        batch: Rows per step.
        lr: Learning rate of Adam, at its maximum.
        balance: Whether rare classes are repeated.
        shift: Most pixels by which images are shifted at random.
        flip: Whether images are also flipped horizontally at random.
    """

    family: str = "cnn"
    epochs: int = 5
    batch: int = 64
    lr: float = 4e-3
    balance: bool = True
    shift: int = 2
    flip: bool = False

    def __post_init__(self) -> None:
        Augment(self.shift, self.flip)
        if self.epochs < 1:
            raise BadInput(f"{self}: epochs must be at least 1")

    def extract(self, oracle: Oracle, pool: Pool, rng: np.random.Generator) -> Network:
        """Queries the pool, each row at most once, and trains the surrogate; see :class:`Extraction`."""
        surrogate = own_model(oracle.card, family_named(self.family), seed=new_seed(rng))
        x = numbers(pool.x)[rng.permutation(len(pool))]
        labels = some(oracle, x).labels
        rows = balanced(labels, rng) if self.balance else np.arange(len(labels))
        training, changes = Training(self.epochs, self.batch, self.lr), Augment(self.shift, self.flip)
        return surrogate.fit(
            x[rows], labels[rows], training, seed=new_seed(rng), label="surrogate", augment=changes
        )


def balanced(labels: Labels, rng: np.random.Generator) -> Array:
    """Returns indices in which each class that occurs has as many rows as the most frequent one.

    All rows of a class occur as often as one another, but for a remainder that is drawn.
    """
    classes, counts = np.unique(labels, return_counts=True)
    most, parts = counts.max(), list[Array]()
    for label, count in zip(classes, counts, strict=True):
        own = np.flatnonzero(labels == label)
        parts += [np.tile(own, most // count), rng.permutation(own)[: most % count]]
    return np.concatenate(parts)
