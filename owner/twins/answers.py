"""The queries of the twin test, and the answers of the victim and its twins, which are kept in a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from owner.twins.kept import Kept
from owner.twins.twins import Twins
from wire import Array, Labels, Oracle


@dataclass(frozen=True)
class Holdings:
    """The owner's holdings for the twin test.

    Attributes:
        twins: The victim, its twins and the reference rows.
        independent: Models known not to be stolen, by name.
    """

    twins: Twins
    independent: Mapping[str, Oracle]


@dataclass(frozen=True, eq=False)
class Answers(Kept):
    """The answers of the victim and its twins.

    Attributes:
        chosen: Numbers of the chosen reference rows, ``(m,)``.
        probs: The models' probabilities for all queries, ``(M + 1, n, k)`` float32.
    """

    chosen: Labels
    probs: Array


@dataclass(frozen=True, eq=False)
class Study:
    """What the tests of all suspects share.

    Attributes:
        holdings: The owner's holdings.
        answers: The chosen rows, and the models' answers.
        x: The queries, ``(n, *input_shape)``: the chosen rows, then the copies of each.
    """

    holdings: Holdings
    answers: Answers
    x: Array
