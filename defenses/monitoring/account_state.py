"""The state of an account: a fold over its append-only log in the store.

Each worker folds the same log, so workers agree and a restart loses nothing. A worker keeps the state in memory
and reads only the entries that others have appended since.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from defenses.detectors.detector import State
from defenses.microbatch import MicroBatch
from defenses.monitoring.fold import Fold
from defenses.monitoring.records import read_entry
from defenses.monitoring.snapshots import schema
from wire import Refused

if TYPE_CHECKING:
    from defenses.monitoring.monitor import Monitor

log = logging.getLogger(__name__)

_COMPACTED = 4096  # minimum number of rows between two snapshots; also at least as many as the state has
_SHORT = 2**29  # bytes of new rows times old rows: takes a few milliseconds, and twice as long in a thread
_BESIDE = 2**14  # bytes of a state besides its arrays
_KEY = 200  # bytes per idempotency key


class AccountState:
    """One worker's copy of the state of one account, or of all accounts together.

    Attributes:
        log: Name of the log.
        position: Position up to which the log is folded.
        nbytes: Memory of the state, in bytes.
        take: Logs and folds an entry, and returns the number of rows that the account had sent before it, or None
            for an entry that was observed before; concurrent entries share the next trip to the store.
    """

    def __init__(self, monitor: Monitor, name: str) -> None:
        """Makes the initial state; reads nothing yet."""
        self._monitor, self._name = monitor, name
        started = f"{monitor.detector}\n{monitor.site.fingerprint}\n{schema(type(monitor.detector.begin()))}"
        settings = hashlib.sha256(started.encode()).hexdigest()[:16]
        place = monitor.site.place or monitor.site.model
        self.log = f"watch/{place}/{monitor.kind}/{settings}/{name}"
        self.nbytes = _BESIDE
        self.take = MicroBatch[bytes, int | None](self._take)
        self._restart()

    def _restart(self) -> None:
        self._folded = Fold(self._monitor.detector, self._name)
        self.position = 0

    @property
    def state(self) -> State:
        """The detector's state."""
        return self._folded.state

    async def catch_up(self) -> Mapping[int, int]:
        """Folds new entries of the log; only one call may run at a time.

        Returns:
            What :attr:`take` returns for new entries, by their positions.

        Raises:
            Refused: The store is unavailable, or the log cannot be read (503).
        """
        found = await self._monitor.site.store.read(self.log, self.position)
        if found.start < self.position:
            self._restart_after_loss(found.end)
            found = await self._monitor.site.store.read(self.log)
        return await self._fold(found.entries, found.start, found.snapshot)

    def _restart_after_loss(self, end: int) -> None:
        log.error("%s ends at %d, but was read up to %d: reading it again", self.log, end, self.position)
        self._restart()

    async def _take(self, entries: Sequence[bytes]) -> list[int | None]:
        site = self._monitor.site
        end = await site.store.append(self.log, entries)
        if end < self.position + len(entries):
            self._restart_after_loss(end - len(entries))
        if end == self.position + len(entries):
            before = await self._fold(entries, self.position)
        else:
            before = await self.catch_up()
        for account in list(self._folded.alarms()):
            look, clears = partial(self._look, account), self._folded.clears(account)
            await site.alarms.raise_alarm(account, site.model, self._monitor.kind, clears, look)
        if self._folded.fresh >= max(_COMPACTED, self.state.rows - self._folded.fresh):
            await site.store.compact(self.log, self.position, await asyncio.to_thread(self._folded.snapshot))
            self._folded.fresh = 0
        return [before.get(position) for position in range(end - len(entries), end)]

    async def _fold(self, entries: Sequence[bytes], start: int, saved: bytes | None = None) -> Mapping[int, int]:
        try:
            if saved is None and sum(map(len, entries)) * (self.state.rows + 1) < _SHORT:
                before = self._fold_now(entries, start, saved)
            else:
                before = await asyncio.to_thread(self._fold_now, entries, start, saved)
        except ValueError as fault:
            log.error("account %s gets no answers: %s: %s", self._name, self.log, fault)
            self._restart()  # some entries may have been folded
            raise Refused("the log of this account cannot be read", status=503) from fault
        self._monitor.resize(self._name, self, _BESIDE + _KEY * len(self._folded.keys) + self.state.nbytes)
        return before

    def _fold_now(self, entries: Sequence[bytes], start: int, saved: bytes | None) -> dict[int, int]:
        if saved is not None:
            self._folded.restore(saved)
            self.position = start
        before = self._folded.fold([read_entry(entry) for entry in entries])
        before = {self.position + index: rows for index, rows in before.items()}
        self.position += len(entries)
        return before

    async def _look(self, account: str) -> dict[str, Any] | None:
        """Reads new entries, then returns the details of an account's alarm; None if it was cleared."""
        await self.catch_up()
        alarm = self._folded.alarms().get(account)
        if alarm is None:
            return None
        consequence = self._monitor.consequence
        return {
            "row": alarm.row,
            "statistic": alarm.statistic,
            "reaction": consequence.reaction,
            "digits": consequence.digits,
            "log": self.log,
        }
