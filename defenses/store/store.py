"""The protocol of a store, and what all stores share: how they refuse in an outage and note what was answered."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, Protocol

from defenses.store.counters import Charge, Level, Open, OpenCharge, Verdict, add_open
from wire import Refused

CONTROL = "range"  # name of the control log; ``Charge.log_position`` is a position in it
_WRITE_SECONDS = 1.0  # after which answers are recorded if there is no other trip

log = logging.getLogger(__name__)


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


class Outage:
    """Refuses while a store cannot be used, and logs the beginning and the end, once each."""

    def __init__(self, errors: tuple[type[Exception], ...], tell: Callable[[Exception], str]) -> None:
        """Knows of none.

        Args:
            errors: The errors that mean that the store cannot be used.
            tell: Describes such an error to clients.
        """
        self._errors, self._tell = errors, tell
        self._since: float | None = None

    @contextmanager
    def watched(self, *, writes: bool) -> Iterator[None]:
        """Turns errors into refusals (503). Only a write ends an outage, since a full disk can still be read."""
        try:
            yield
        except self._errors as error:
            if self._since is None:
                self._since = time.monotonic()
                log.error(
                    "the store is unavailable, and requests are refused: %s: %s", type(error).__name__, error
                )
            raise Refused(f"the store is unavailable: {self._tell(error)}", status=503, retry_after=1) from error
        if writes and self._since is not None:
            log.warning("the store is available again, after %.1f seconds", time.monotonic() - self._since)
            self._since = None


class Answered:
    """The charges of requests that were answered since the last trip."""

    def __init__(self, write: Callable[[], Awaitable[None]]) -> None:
        """Takes a function that makes a trip."""
        self._write = write
        self._amounts: Open = {}
        self._loop: asyncio.AbstractEventLoop | None = None  # where a timer runs
        self._writing: asyncio.Future[None] | None = None  # held, since a loop forgets tasks

    def add(self, charge: Charge) -> None:
        """Adds a charge, which the next trip takes."""
        if not self._amounts:  # the first since a trip
            loop = asyncio.get_running_loop()
            if self._loop is not loop:
                self._loop = loop
                loop.call_later(_WRITE_SECONDS, self._due)
        add_open(self._amounts, charge)

    def take(self) -> Open:
        """Returns the amounts, which are now the caller's."""
        taken, self._amounts = self._amounts, {}
        return taken

    def put_back(self, amounts: Open) -> None:
        """Returns amounts after a trip that failed."""
        for share, amount in amounts.items():
            self._amounts[share] = self._amounts.get(share, 0) + amount

    async def flush(self) -> None:
        """Makes a trip if there is anything to write."""
        if self._amounts:
            await self._write()

    def _due(self) -> None:
        self._loop = None
        self._writing = asyncio.ensure_future(self.flush())
