"""Checks before an attack's first query, and on its first answer."""

from __future__ import annotations

from pathlib import Path

from wire import Answer, Array, BadInput, Card, Oracle, WireError
from wire.fits import label_misfit, misfit
from zoo.data.pool import Pool


class NothingAnswered(WireError):
    """Not a single row was answered, so the attack has nothing to work with."""


class NotApplicable(Exception):
    """The attack needs something that this model does not disclose; nothing was queried."""


def needs_probs(card: Card) -> None:
    """Raises :class:`NotApplicable` if a model discloses labels only."""
    if not card.tells_probs:
        raise NotApplicable("labels only")


def some(oracle: Oracle, x: Array) -> Answer:
    """Queries rows until the budget ends or the victim stops answering, and requires at least one answer.

    Args:
        oracle: The victim's oracle.
        x: Rows, ``(n, *input_shape)``.

    Returns:
        The answer to the first ``m <= n`` rows, ``m`` at least 1.

    Raises:
        NothingAnswered: Not a single row was answered.
    """
    answer = oracle.collect(x)
    if not len(answer):
        none = "there were no rows to ask about; expected a file of rows"
        raise NothingAnswered(f"not a single row was answered: {oracle.ended or none}")
    return answer


def fitting(path: Path, card: Card, *, labelled: bool = False) -> Pool:
    """Reads a file of rows to query a victim with, or to train a surrogate or shadow model on.

    Features may be missing, and rows may be texts, where the victim takes them.

    Args:
        path: The file.
        card: The victim's card.
        labelled: Whether the rows need their true labels.

    Raises:
        BadInput: The file is invalid, or the victim cannot take its rows.
    """
    pool = Pool.load(path)
    wrong = misfit(pool.x, card) or (label_misfit(pool.y, card) if labelled else None)
    if wrong is None and not card.dtype.startswith(("FP", "UINT8", "BYTES")):
        wrong = f"{card.model} takes {card.dtype}, but attacks send floats or texts"
    if wrong is not None:
        raise BadInput(f"{path}: {wrong}")
    return pool
