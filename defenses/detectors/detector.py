"""What a detector is: a pure fold over the rows that accounts send, with no clock, no randomness and no store.

A detector is a frozen dataclass of hyper-parameters. Its state is a plain dataclass of numbers, strings, arrays,
lists, dicts and dataclasses of these, which :mod:`defenses.monitoring.snapshots` writes and reads.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from defenses.companions import Companions
from wire import Array, Card, Labels

Features = Callable[[Array, Labels], Awaitable[Array]]
"""From rows ``(n, *input_shape)`` and the model's labels ``(n,)`` to what a detector observes in their place.

That is an array ``(n, d)`` or ``(n,)`` of bytes or float32, in which each row depends on its own row and label
alone.
"""


class Alarm(NamedTuple):
    """An account's first alarm.

    Attributes:
        row: The row after which it was raised, counted from 1 over all rows of the account.
        statistic: The detector's test statistic after that row.
    """

    row: int
    statistic: float


class State(Protocol):
    """What a detector remembers.

    It also has ``alarm``, the account's first alarm or None; that of a :class:`CrossAccountDetector` has
    ``alarms``, by account.
    """

    @property
    def rows(self) -> int:
        """How many rows it has seen, or holds if it forgets some."""
        ...

    @property
    def nbytes(self) -> int:
        """The memory that it takes."""
        ...


class Detector(Protocol):
    """Watches each account by itself."""

    def begin(self) -> Any:
        """Returns the :class:`State` of an account that has sent nothing."""
        ...

    def observe(self, state: Any, rows: Array, labels: Labels) -> Any:
        """Folds more rows into a state; the result is the same however rows are split into calls.

        Args:
            state: The state so far; it may be changed.
            rows: Rows ``(n, d)``, or their features where the detector is a :class:`Featurizer`.
            labels: The model's own labels, ``(n,)``.

        Returns:
            The new state.

        Raises:
            ValueError: The rows do not fit those before. The state is unchanged.
        """
        ...


@runtime_checkable
class CrossAccountDetector(Protocol):
    """Watches all accounts of a model together, in one state."""

    def begin(self) -> Any:
        """Returns the state in which nothing has been sent."""
        ...

    def observe(self, state: Any, rows: Array, labels: Labels, accounts: Sequence[str]) -> Any:
        """Folds more rows into a state, as :meth:`Detector.observe`; ``accounts`` names each row's sender."""
        ...

    def forget(self, state: Any, account: str) -> Any:
        """Clears what was found of an account; its rows still count as other accounts' neighbours."""
        ...


@runtime_checkable
class Featurizer(Protocol):
    """A detector that observes features of rows; the log holds these in place of the rows."""

    async def featurizer(self, companions: Companions, card: Card) -> Features:
        """Loads what the features take, tries it on one row, and returns the function that computes them.

        Args:
            companions: Models that can be evaluated beside the served one.
            card: The served model's card.

        Raises:
            BadInput: Something is missing, broken or made for other models.
        """
        ...


def zero_row(card: Card) -> Array:
    """Returns one row of zeros as the model takes it, ``(1, *input_shape)``, to try a function on."""
    return np.zeros((1, *card.input_shape), np.uint8 if card.dtype == "UINT8" else np.float32)
