"""The protocol of a store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from defenses.store.counters import Charge, Level, Verdict

CONTROL = "range"  # the log of which :attr:`~defenses.store.counters.Charge.log_position` is a position


class LogSlice(NamedTuple):
    """A part of a log.

    Attributes:
        start: Position of the first of the entries.
        snapshot: Replaces all entries before ``start``, if ``start`` is later than was asked for.
        entries: The entries from ``start`` on.
    """

    start: int
    snapshot: bytes | None
    entries: list[bytes]

    @property
    def end(self) -> int:
        """The position behind the last entry."""
        return self.start + len(self.entries)


class VersionConflict(Exception):  # no error: the caller reads on and tries again
    """A log has grown beyond the expected position."""


class Store(Protocol):
    """Counters, receipts and logs, shared by all workers.

    Charges that arrive together share one round trip. An unavailable store raises :class:`~wire.Refused` (503), so
    defences fail closed. Such a charge is not made, or it is refunded when the store is back.
    """

    async def charge(self, charge: Charge) -> Verdict:
        """Charges an account, in one atomic step."""
        ...

    async def refund(self, charge: Charge) -> None:
        """Undoes a charge whose request was not answered."""
        ...

    async def levels(self, account: str) -> dict[str, Level]:
        """Returns the levels of an account's counters, as they were when each last rose."""
        ...

    async def append(self, log: str, entries: Sequence[bytes], expected: int | None = None) -> int:
        """Appends to a log.

        Args:
            log: Its name.
            entries: What is appended, together.
            expected: Position at which the log must end; None if it does not matter.

        Returns:
            The position behind the last entry.

        Raises:
            VersionConflict: The log does not end as expected; nothing was appended.
        """
        ...

    async def read(self, log: str, start: int = 0) -> LogSlice:
        """Reads a log from a position, or from its end if that comes first; a snapshot may replace old entries."""
        ...

    async def compact(self, log: str, upto: int, snapshot: bytes) -> None:
        """Replaces all entries before a position by a snapshot, unless there is a later one."""
        ...

    async def close(self) -> None:
        """Closes the connection."""
        ...
