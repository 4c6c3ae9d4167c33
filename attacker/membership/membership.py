"""The protocol that every membership attack keeps."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from attacker.asking import some
from wire import Answer, Array, Card, Labels, Oracle
from zoo.data.pool import Pool


class NotApplicable(Exception):
    """The attack needs something that this model does not disclose; nothing was asked."""


@runtime_checkable
class Membership(Protocol):
    """A frozen dataclass that distinguishes members, the rows that a model was trained on, from others."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def infer(self, oracle: Oracle, x: Array, y: Labels, shadow: Pool, rng: np.random.Generator) -> Array:
        """Scores candidates; each is asked about at most once.

        Args:
            oracle: The way to the victim; afterwards its ``ended`` says why the asking stopped early, if it did.
            x: Candidates, ``(n, *input_shape)``.
            y: Their true labels, ``(n,)``.
            shadow: Labelled rows of the candidates' distribution; attacks without shadow models do not look at it.
            rng: Source of all randomness.

        Returns:
            Scores, ``(n,)`` float64, higher for members; NaN for a candidate that got no answer.

        Raises:
            NotApplicable: The model discloses labels only, and the attack needs more.
            WireError: Not a single row was answered.
        """
        ...


def ask(oracle: Oracle, x: Array, rng: np.random.Generator) -> tuple[Array, Answer]:
    """Asks about candidates in random order, so that what an early end leaves is a fair sample of them.

    Returns:
        The indices of the candidates that were answered, ``(m,)``, and the answer about these.
    """
    order = rng.permutation(len(x))
    answer = some(oracle, x[order])
    return order[: len(answer)], answer


def needs_probs(card: Card) -> None:
    """Raises :class:`NotApplicable` if a model discloses labels only."""
    if not card.tells_probs:
        raise NotApplicable("labels only")
