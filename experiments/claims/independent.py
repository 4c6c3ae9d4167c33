"""Independent models, and answers that are ready: what the claims about ownership share."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from tqdm import tqdm

from experiments.lab import Lab
from wire import Answer, Array, Card, Labels, Oracle
from zoo.data import Pool
from zoo.families import Architecture
from zoo.families.mlp import Mlp
from zoo.network import Network
from zoo.training import Training

SMALL: tuple[Architecture, ...] = (Mlp((64,)), Mlp((128,)), Mlp((64, 32)))
SHORT = Training(epochs=3, batch=128, lr=4e-3)
ROWS = 1000  # of the small models


def independents(
    lab: Lab, control: Pool, count: int, alike: int, hidden: tuple[int, ...], training: Training, rows: int
) -> list[Network]:
    """Returns models of rows that no victim has: the first are trained as victims are, the others are smaller.

    Args:
        lab: Keeps them.
        control: The rows.
        count: Number of models.
        alike: How many of them are trained as victims are.
        hidden: Widths of the hidden layers of a victim.
        training: The training of a victim.
        rows: Rows of a victim.
    """
    made = list[Network]()
    for number in tqdm(range(count), desc="independent", unit="model"):
        size = min(rows if number < alike else ROWS, len(control) // 2)
        pool = control.take(np.random.default_rng([7, number]).permutation(len(control))[:size])
        family = Mlp(hidden) if number < alike else SMALL[number % len(SMALL)]
        with_training = training if number < alike else SHORT
        made.append(lab.train(pool, 1000 + number, family=family, training=with_training, label="independent"))
    return made


def telling(rows: Array, labels: Labels, card: Card, probs: Array | None = None) -> Oracle:
    """Returns an oracle that has its answers about rows ready, so that each model is run once."""
    number: Mapping[bytes, int] = {row.tobytes(): place for place, row in enumerate(rows)}

    def answer(x: Array) -> Answer:
        places = np.array([number[row.tobytes()] for row in x], np.int64)
        return Answer(labels[places], None if probs is None else probs[places])

    return Oracle(answer, card)


def labels_of(model: Network, x: Array) -> Labels:
    """Returns a model's labels of rows ``x``, ``(n,)``."""
    return np.asarray(model.predict(x).argmax(axis=1), np.int64)


def accuracy(model: Network, pool: Pool) -> float:
    """Returns the share of labelled rows that a model labels so."""
    return float((labels_of(model, pool.x) == pool.y).mean())
