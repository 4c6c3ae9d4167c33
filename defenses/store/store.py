"""The protocol of a store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from defenses.store.counters import Charge, Level, Verdict
from defenses.store.open_charges import OpenCharge

CONTROL = "range"  # name of the control log; ``Charge.log_position`` is a position in it


class LogSlice(NamedTuple):
    """A part of a log.

    Attributes:
        start: Position of the first entry.
        snapshot: Replaces all entries before ``start``, if ``start`` is later than requested.
        entries: The entries from ``start`` on.
    """

    start: int
    snapshot: bytes | None
    entries: list[bytes]

    @property
    def end(self) -> int:
        """The position after the last entry."""
        return self.start + len(self.entries)


class VersionConflict(Exception):  # not an error: the caller reads the new entries and tries again
    """A log has grown beyond the expected position."""


class Store(Protocol):
    """Counters, receipts and logs, shared by all workers.

    Concurrent charges share one round trip. An unavailable store raises :class:`~wire.Refused` (503), so that
    defences fail closed. Such a charge is not made, or it is refunded when the store is back.
    """

    async def charge(self, charge: Charge) -> Verdict:
        """Charges an account in one atomic step."""
        ...

    async def charge_all(self, charges: Sequence[Charge]) -> Sequence[Verdict]:
        """Makes several charges, one after the other, in one trip."""
        ...

    async def refund(self, charge: Charge) -> None:
        """Undoes a charge whose request was not answered."""
        ...

    def answered(self, charge: Charge) -> None:
        """Notes that a charge's request was answered; recorded with the next trip, or after a second."""
        ...

    async def open_charges(self) -> list[OpenCharge]:
        """Returns what is charged for requests that are not recorded as answered."""
        ...

    async def reconcile(self, idle: float) -> list[OpenCharge]:
        """Refunds what workers left open that are gone, and returns it.

        Args:
            idle: Seconds without a trip after which a worker counts as gone. If one is not gone, its requests in
                progress are answered without charge.
        """
        ...

    async def levels(self, account: str) -> dict[str, Level]:
        """Returns the levels of an account's counters, each as of its last increase."""
        ...

    async def append(self, log: str, entries: Sequence[bytes], expected: int | None = None) -> int:
        """Appends to a log.

        Args:
            log: Name of the log.
            entries: The entries, appended in one atomic step.
            expected: Position at which the log must end; None to skip the check.

        Returns:
            The position after the last entry.

        Raises:
            VersionConflict: The log does not end as expected; nothing was appended.
        """
        ...

    async def read(self, log: str, start: int = 0) -> LogSlice:
        """Reads a log from a position, or from its end if that is earlier; a snapshot may replace old entries."""
        ...

    async def compact(self, log: str, upto: int, snapshot: bytes) -> None:
        """Replaces all entries before a position by a snapshot, unless there is a later one."""
        ...

    async def probe(self) -> None:
        """Writes, so that a full disk is found, or raises :class:`~wire.Refused` (503)."""
        ...

    def now(self) -> float:
        """Returns the time in seconds since the epoch, by the one clock of all workers that share the store."""
        ...

    async def close(self) -> None:
        """Closes the connection."""
        ...
