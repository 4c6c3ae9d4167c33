"""The reaction ``deceive``: shuffled answers for an account that raised an alarm."""

from __future__ import annotations

import numpy as np

from defenses.answers.grid import ANY, Grid
from defenses.answers.row_noise import row_noise
from wire import Answer, Array

_TOP = 3  # number of classes to shuffle


def shuffled(secret: bytes, x: Array, answer: Answer, classes: int, grid: Grid = ANY) -> Answer:
    """Shuffles the likeliest classes of each row, always the same way for the same row.

    If an answer has labels only, the classes that follow the label stand in for the next likeliest ones.

    Args:
        secret: The key.
        x: The rows, ``(n, ...)``.
        answer: The answer before shuffling.
        classes: Number of classes.
        grid: The grid of the model's rows.
    """
    top = min(_TOP, classes)
    drawn = row_noise(secret, x, top, grid).argsort(axis=1)  # rank i gets the probability of rank drawn[i]
    rows = np.arange(len(x))
    to = drawn.argmin(axis=1)  # the rank of the class that becomes the label
    if answer.probs is None:
        return Answer((answer.labels + to) % classes)
    likely = np.nan_to_num(answer.probs, nan=-1.0)
    likely[rows, answer.labels] = np.inf
    order = np.argsort(-likely, axis=1, kind="stable")[:, :top]
    probs = answer.probs.copy()
    np.put_along_axis(probs, order, np.take_along_axis(np.take_along_axis(probs, order, 1), drawn, 1), 1)
    return Answer(order[rows, to], probs)
