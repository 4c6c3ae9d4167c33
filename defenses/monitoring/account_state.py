"""The state of an account: a fold over its append-only log in the store.

Each worker folds the same log, so workers agree and a restart loses nothing. A worker keeps the state in memory
and reads only the entries that others have appended since.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from defenses.detectors.detector import Alarm, CrossAccountDetector, State
from defenses.microbatch import MicroBatch
from defenses.monitoring.records import Entry, Snapshot, read_entry, read_snapshot
from defenses.monitoring.snapshots import dump, load, schema
from wire import Refused

if TYPE_CHECKING:
    from defenses.monitoring.monitor import Monitor

log = logging.getLogger(__name__)

_COMPACTED = 4096  # minimum number of rows between two snapshots; also at least as many as the state has
_SHORT = 2**29  # bytes of new rows times old rows: takes a few milliseconds, and twice as long in a thread
_BESIDE = 2**14  # bytes of a state besides its arrays
_KEYS = 4096  # idempotency keys to remember per account
_KEY = 200  # bytes per idempotency key


class AccountState:
    """One worker's copy of the state of one account, or of all accounts together.

    Attributes:
        log: Name of the log.
        state: The detector's state.
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
        self.state: State = self._monitor.detector.begin()
        self.position = 0
        self._fresh = 0  # rows in the log since the snapshot
        self._keys: dict[str, None] = {}  # idempotency keys of the last requests, in order
        self._clears: dict[str, int] = {}  # how often each account had been cleared, according to its entries

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
        for account in list(self._alarms()):
            look, clears = partial(self._look, account), self._clears.get(account, 0)
            await site.alarms.raise_alarm(account, site.model, self._monitor.kind, clears, look)
        if self._fresh >= max(_COMPACTED, self.state.rows - self._fresh):
            await site.store.compact(self.log, self.position, await asyncio.to_thread(self._snapshot))
            self._fresh = 0
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
        self._monitor.resize(self._name, self, _BESIDE + _KEY * len(self._keys) + self.state.nbytes)
        return before

    def _fold_now(self, entries: Sequence[bytes], start: int, saved: bytes | None) -> dict[int, int]:
        if saved is not None:
            keys, self._clears, state = read_snapshot(saved)
            self.state, self.position, self._fresh = load(self._monitor.detector.begin(), state), start, 0
            self._keys = dict.fromkeys(keys)
        parts: list[Entry] = []  # many small entries are folded at once
        waiting: Counter[str] = Counter()  # rows of each account among them
        before: dict[int, int] = {}
        for position, read in enumerate(map(read_entry, entries), self.position):
            account = self._name if read.account is None else read.account
            cleared = read.clears > self._clears.get(account, 0)
            if parts and (cleared or read.rows.dtype != parts[0].rows.dtype):
                self._observe(parts)
                parts = []
                waiting.clear()
            if cleared:
                self._clear(account, read.clears)
            self._fresh += len(read.labels)
            if not self._is_new(read):
                continue
            before[position] = self._sent(account) + waiting[account]
            waiting[account] += len(read.labels)
            parts.append(read)
        if parts:
            self._observe(parts)
        self.position += len(entries)
        return before

    def _sent(self, account: str) -> int:
        """Returns the number of rows of an account that the state has seen."""
        detector = self._monitor.detector
        if isinstance(detector, CrossAccountDetector):
            return detector.sent(self.state, account)
        return self.state.rows

    def _clear(self, account: str, clears: int) -> None:
        """Resets the detector's state of an account."""
        self._clears[account] = clears
        detector = self._monitor.detector
        if isinstance(detector, CrossAccountDetector):
            self.state = detector.forget(self.state, account)
        else:
            self.state, self._fresh = detector.begin(), 0

    def _observe(self, parts: Sequence[Entry]) -> None:
        detector = self._monitor.detector
        rows, labels = (np.concatenate(part) for part in zip(*(part[:2] for part in parts), strict=True))
        if isinstance(detector, CrossAccountDetector):
            accounts = [part.account or "" for part in parts for _ in part.labels]
            self.state = detector.observe(self.state, rows, labels, accounts)
        else:
            self.state = detector.observe(self.state, rows, labels)

    def _alarms(self) -> Mapping[str, Alarm]:
        state: Any = self.state
        if self._monitor.together:
            alarms: Mapping[str, Alarm] = state.alarms
            return alarms
        return {} if state.alarm is None else {self._name: state.alarm}

    def _is_new(self, read: Entry) -> bool:
        if read.idempotency_key is None:
            return True
        key = read.idempotency_key if read.account is None else f"{read.account}/{read.idempotency_key}"
        if key in self._keys:
            return False
        self._keys[key] = None
        if len(self._keys) > _KEYS:
            del self._keys[next(iter(self._keys))]
        return True

    def _snapshot(self) -> bytes:
        return Snapshot(list(self._keys), self._clears, dump(self.state)).to_bytes()

    async def _look(self, account: str) -> dict[str, Any] | None:
        """Reads new entries, then returns the details of an account's alarm; None if it was cleared."""
        await self.catch_up()
        alarm = self._alarms().get(account)
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
