"""The protocol of a detector: a pure fold over the rows that accounts send, without clock, randomness or store.

A detector is a frozen dataclass of hyper-parameters. Its state is a plain dataclass of numbers, strings, arrays,
lists, dicts and dataclasses of these, which :mod:`defenses.monitoring.snapshots` writes and reads.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import numpy as np

from defenses.companions import Companions
from wire import Array, Card, Labels, Origin

Features = Callable[[Array, Labels], Awaitable[Array]]
"""Maps rows ``(n, *input_shape)`` and the model's labels ``(n,)`` to the features that a detector observes.

Features are an array ``(n, d)`` or ``(n,)`` of bytes or float32; each depends on its own row and label alone.
"""


class Alarm(NamedTuple):
    """An account's first alarm.

    Attributes:
        row: Number of the row that raised it, counted from 1 over all rows of the account.
        statistic: The detector's test statistic at that row.
    """

    row: int
    statistic: float


class State(Protocol):
    """The state of a detector.

    It also has ``alarm``, the account's first alarm or None; the state of a :class:`CrossAccountDetector` has
    ``alarms``, by account.
    """

    @property
    def rows(self) -> int:
        """Number of rows seen, or of rows held if it forgets some."""
        ...

    @property
    def nbytes(self) -> int:
        """Memory of the state, in bytes."""
        ...


class Detector(Protocol):
    """A detector that watches each account separately."""

    def begin(self) -> Any:
        """Returns the :class:`State` of an account that has sent nothing."""
        ...

    def observe(self, state: Any, rows: Array, labels: Labels) -> Any:
        """Folds more rows into a state; the result does not depend on how rows are split into calls.

        Args:
            state: The state so far; it may be changed.
            rows: Rows ``(n, d)``, or their features if the detector is a :class:`Featurizer`.
            labels: The model's own labels, ``(n,)``.

        Returns:
            The new state.

        Raises:
            ValueError: The rows do not match earlier ones. The state is unchanged.
        """
        ...


@runtime_checkable
class CrossAccountDetector(Protocol):
    """A detector that watches all accounts of a model together, in one state."""

    def begin(self) -> Any:
        """Returns the initial state."""
        ...

    def observe(self, state: Any, rows: Array, labels: Labels, accounts: Sequence[str]) -> Any:
        """Folds more rows into a state, as :meth:`Detector.observe`; ``accounts`` names each row's sender."""
        ...

    def sent(self, state: Any, account: str) -> int:
        """Returns how many rows an account has sent since it was last forgotten."""
        ...

    def forget(self, state: Any, account: str) -> Any:
        """Clears an account's evidence and alarm; its rows still count as other accounts' neighbours."""
        ...


class Sent(NamedTuple):
    """When a row came, and from where.

    Attributes:
        at: Seconds since the epoch.
        origin: What the server knows of its sender.
    """

    at: float = 0.0
    origin: Origin = Origin()


@runtime_checkable
class LinkedDetector(CrossAccountDetector, Protocol):
    """A detector of all accounts that also sees when and from where each row came."""

    linked: ClassVar[bool]  # tells it from others at run time

    def observe(
        self, state: Any, rows: Array, labels: Labels, accounts: Sequence[str], sent: Sequence[Sent] = ()
    ) -> Any:
        """Folds more rows into a state; ``sent`` has one entry for each, and empty ones if there are none."""
        ...


@runtime_checkable
class Featurizer(Protocol):
    """A detector that observes features of rows; the log stores features instead of rows."""

    async def featurizer(self, companions: Companions, card: Card) -> Features:
        """Returns the function that computes the features, after trying it on one row.

        Args:
            companions: Models that can be evaluated beside the served one.
            card: The served model's card.

        Raises:
            BadInput: A file or model that the features need is missing, invalid or made for other models.
        """
        ...


def zero_row(card: Card) -> Array:
    """Returns a row to try a function on: zeros in the model's dtype, ``(1, *input_shape)``; or an empty text."""
    if card.dtype == "BYTES":
        return np.array([""], object)
    return np.zeros((1, *card.input_shape), np.uint8 if card.dtype == "UINT8" else np.float32)
