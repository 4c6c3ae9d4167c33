"""What a detector is: a pure fold over the rows of an account."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from wire import Array, Card, Labels


class Alarm(Protocol):
    """What a detector found, ``row`` rows after the state began."""

    @property
    def row(self) -> int: ...  # noqa: D102
    @property
    def statistic(self) -> float: ...  # noqa: D102


class State(Protocol):
    """What a detector remembers.

    It also has ``alarm``, the account's first alarm or None; that of a :class:`CrossAccountDetector` has
    ``alarms``, by account.
    """

    @property
    def rows(self) -> int:
        """How many rows it has seen, or keeps if it forgets some."""
        ...

    @property
    def nbytes(self) -> int:
        """The memory that its arrays take."""
        ...

    def to_bytes(self) -> bytes:
        """Returns all of it."""
        ...


class Detector(Protocol):
    """A pure fold over an account's rows, or over their features if it is a :class:`Featurizer`."""

    def begin(self, saved: bytes | None = None) -> Any:
        """Returns the state of an account of no rows, or one that was saved (ValueError if that is broken)."""
        ...

    def observe(self, state: Any, rows: Array, labels: Labels) -> Any:
        """Takes rows ``(n, ...)`` and the victim's labels ``(n,)``, however they are split into calls."""
        ...


@runtime_checkable
class CrossAccountDetector(Protocol):
    """A detector that watches all accounts of a model together, in one state."""

    def begin(self, saved: bytes | None = None) -> Any:
        """Returns the state of no rows, or one that was saved (ValueError if that is broken)."""
        ...

    def observe(self, state: Any, rows: Array, labels: Labels, accounts: Sequence[str]) -> Any:
        """Takes rows ``(n, ...)``, the victim's labels ``(n,)`` and the account of each, as a detector does."""
        ...

    def forget(self, state: Any, account: str) -> Any:
        """Starts anew with an account; its rows may still count for others."""
        ...


@runtime_checkable
class Featurizer(Protocol):
    """A detector that needs features, which other models compute, in place of rows."""

    async def prepare(self, card: Card) -> None:
        """Gets what the features of a victim's rows take.

        Raises:
            BadInput: That is not to be had, or is for other victims.
        """
        ...

    async def features(self, x: Array, labels: Labels) -> Array:
        """Returns the features of rows ``(n, *input_shape)`` with the victim's labels ``(n,)``.

        They are n rows of bytes or float32, each a function of its row and label alone.
        """
        ...
