"""What a store can do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from defenses.store.counters import Charge, Level, Verdict

CONTROL = "range"  # the log of which :attr:`~defenses.store.counters.Charge.seen` is a position


class LogSlice(NamedTuple):
    """The end of a log.

    Attributes:
        start: Position of the first of the entries.
        snapshot: What stands for all before ``start``, if that is later than was asked for.
        entries: The entries from ``start`` on.
    """

    start: int
    snapshot: bytes | None
    entries: list[bytes]

    @property
    def end(self) -> int:
        """The position behind the last entry."""
        return self.start + len(self.entries)


class VersionConflict(Exception):  # no error: who is behind reads on and tries again
    """A log has grown beyond the position that was told."""


class Store(Protocol):
    """Meters, receipts and logs, shared by all workers.

    What is charged at the same time shares one round trip. A store that is away raises :class:`~wire.Refused`
    (503): defences fail closed. A charge that was refused so is not charged, or it is refunded when the store is
    back.
    """

    async def charge(self, charge: Charge) -> Verdict:
        """Charges an account, in one atomic step."""
        ...

    async def refund(self, charge: Charge) -> None:
        """Undoes a charge whose request was not answered."""
        ...

    async def levels(self, account: str) -> dict[str, Level]:
        """Returns the levels of an account's meters, as they were when each last rose."""
        ...

    async def append(self, log: str, entries: Sequence[bytes], expected: int | None = None) -> int:
        """Appends to a log.

        Args:
            log: Its name.
            entries: What is appended, together.
            expected: Position at which the log is expected to end; None if it does not matter.

        Returns:
            The position behind the last entry.

        Raises:
            VersionConflict: The log does not end as expected; nothing was appended.
        """
        ...

    async def read(self, log: str, start: int = 0) -> LogSlice:
        """Reads a log from a position on, or from its end if that is before; a snapshot stands for the oldest."""
        ...

    async def compact(self, log: str, upto: int, snapshot: bytes) -> None:
        """Puts a snapshot in the place of all entries before a position, unless a later one stands there."""
        ...

    async def close(self) -> None:
        """Closes the connection."""
        ...
