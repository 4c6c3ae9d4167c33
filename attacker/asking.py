"""What an attacker checks before the first row is spent, and the first answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from wire import Answer, Array, BadInput, Card, Oracle, WireError
from wire.fits import label_misfit, misfit
from zoo.data.pool import Pool


class NothingAnswered(WireError):
    """Not a single row was answered, so that the attack has nothing to work with."""


def some(oracle: Oracle, x: Array) -> Answer:
    """Asks about rows for as long as there are answers to be had, which must be at least one.

    Args:
        oracle: The way to the victim.
        x: Rows, ``(n, *input_shape)``.

    Returns:
        The answer about the first ``m <= n`` rows, ``m`` at least 1.

    Raises:
        NothingAnswered: There was not one answer.
    """
    answer = oracle.collect(x)
    if not len(answer):
        raise NothingAnswered(
            f"not a single row was answered: {oracle.ended or 'there were no rows to ask about'}"
        )
    return answer


def fitting(path: Path, card: Card, *, labelled: bool = False) -> Pool:
    """Reads a file of rows to ask a victim about, or to train on in its stead.

    Args:
        path: The file.
        card: The victim's card.
        labelled: Whether the rows need their true labels.

    Raises:
        BadInput: The file is broken, or the victim would not take its rows, or no surrogate could.
    """
    pool = Pool.load(path)
    wrong = misfit(pool.x, card) or (label_misfit(pool.y, card) if labelled else None)
    if wrong is None and not card.dtype.startswith(("FP", "UINT8")):
        wrong = f"{card.model} takes {card.dtype}, but attacks ask about floats"
    if wrong is None and np.isnan(pool.x).any():
        wrong = "features are missing in some rows, and no surrogate learns from those"
    if wrong is not None:
        raise BadInput(f"{path}: {wrong}")
    return pool
