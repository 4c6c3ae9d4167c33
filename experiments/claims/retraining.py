"""Trainings of a thief who knows that some answers are marks: he leaves out what fits badly, or stops early.

A mark is a wrong label that nothing but memory explains. So a model that has not seen a marked row contradicts the
answer about it, and marks are the last that a training learns.
"""

from __future__ import annotations

from typing import cast

import numpy as np

from attacker.extraction.targets import targets
from experiments.lab import Asked
from wire import Array
from zoo.families import Architecture
from zoo.network import Network


def like(network: Network, seed: int) -> Network:
    """Returns an untrained network of the same architecture."""
    return Network.untrained(cast(Architecture, network.family), network.card(), seed=seed)


def agreeing(asked: Asked, folds: int, seed: int) -> Array:
    """Returns the indices of the rows whose answer a surrogate of the other parts confirms.

    Args:
        asked: The rows and answers, and the surrogate, whose training all others repeat.
        folds: Number of parts.
        seed: Seed of the parts and of the surrogates.
    """
    parts = np.array_split(np.random.default_rng([seed, 6]).permutation(len(asked.x)), folds)
    kept = []
    for number, part in enumerate(parts):
        others = np.concatenate([other for other in parts if other is not part])
        judge = retrained(asked, others, seed + number, f"judge of part {number + 1}")
        kept.append(part[judge.predict(asked.x[part]).argmax(axis=1) == asked.answer.labels[part]])
    return np.sort(np.concatenate(kept))


def retrained(asked: Asked, rows: Array, seed: int, label: str) -> Network:
    """Trains a surrogate on some of the rows, by index, as the first was trained."""
    assert asked.model.training is not None
    y = targets(asked.answer, asked.model.classes)
    return like(asked.model, seed).fit(asked.x[rows], y[rows], asked.model.training, seed=seed, label=label)


def stopped_early(asked: Asked, share: float, patience: int, seed: int) -> Network:
    """Trains a surrogate until held-out answers fit no better.

    Args:
        asked: As for :func:`agreeing`.
        share: Share of the rows that are held out.
        patience: Epochs without a better fit after which the training ends.
        seed: Seed of the draw and of the training.
    """
    assert asked.model.training is not None
    order = np.random.default_rng([seed, 7]).permutation(len(asked.x))
    held, rest = np.split(order, [round(share * len(order))])
    y = targets(asked.answer, asked.model.classes)
    return like(asked.model, seed).fit(
        asked.x[rest],
        y[rest],
        asked.model.training,
        seed=seed,
        label="early stopping",
        held_out=(asked.x[held], asked.answer.labels[held]),
        patience=patience,
    )
