"""The fold of a detector over the entries of a log, without a store: the same live as when a log is replayed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from defenses.detectors.detector import Alarm, CrossAccountDetector, Detector, State
from defenses.monitoring.records import Entry, Snapshot, read_snapshot
from defenses.monitoring.snapshots import dump, load

_KEYS = 4096  # idempotency keys to remember per account


@cache
def _sees(kind: type) -> tuple[bool, bool]:
    """Returns whether detectors of a class see all accounts, and origins; to ask a protocol takes far longer."""
    return hasattr(kind, "forget"), getattr(kind, "linked", False)


class Fold:
    """A detector's state of one account, or of all accounts together, after the entries so far.

    An entry whose idempotency key was seen is not observed again. An entry that says that the account was cleared
    once more resets the account before its rows.

    Attributes:
        state: The detector's state.
        fresh: Rows that were folded since the state began or was restored.
        keys: Idempotency keys of the last requests, in order.
    """

    def __init__(self, detector: Detector | CrossAccountDetector, account: str) -> None:
        """Begins without entries.

        Args:
            detector: The detector.
            account: The account of entries that name none.
        """
        self.detector: Any = detector
        self._account = account
        self._together, self._linked = _sees(type(detector))
        self.state: State = detector.begin()
        self.fresh = 0
        self.keys: dict[str, None] = {}
        self._clears: dict[str, int] = {}  # how often each account had been cleared, according to its entries

    def restore(self, saved: bytes) -> None:
        """Takes the state of a snapshot.

        Raises:
            ValueError: The bytes are not a snapshot of this detector's state.
        """
        keys, self._clears, state = read_snapshot(saved)
        self.state, self.fresh = load(self.detector.begin(), state), 0
        self.keys = dict.fromkeys(keys)

    def snapshot(self) -> bytes:
        """Returns a snapshot (:meth:`restore`)."""
        return Snapshot(list(self.keys), self._clears, dump(self.state)).to_bytes()

    def clears(self, account: str) -> int:
        """Returns how often an account had been cleared, according to the entries."""
        return self._clears.get(account, 0)

    def fold(self, entries: Sequence[Entry]) -> dict[int, int]:
        """Folds entries, small ones together.

        Returns:
            By the index of each entry that was not observed before: how many rows its account had sent before.

        Raises:
            ValueError: The rows do not match earlier ones; some entries may have been folded.
        """
        parts: list[Entry] = []
        waiting: Counter[str] = Counter()  # rows of each account among them
        before: dict[int, int] = {}
        for index, read in enumerate(entries):
            account = self._account if read.account is None else read.account
            cleared = read.clears > self._clears.get(account, 0)
            if parts and (cleared or read.rows.dtype != parts[0].rows.dtype):
                self._observe(parts)
                parts = []
                waiting.clear()
            if cleared:
                self._clear(account, read.clears)
            self.fresh += len(read.labels)
            if read.idempotency_key is not None and not self._is_new(read.idempotency_key, read.account):
                continue
            before[index] = self._sent(account) + waiting[account]
            waiting[account] += len(read.labels)
            parts.append(read)
        if parts:
            self._observe(parts)
        return before

    def alarms(self) -> Mapping[str, Alarm]:
        """Returns the first alarm of each account that has one."""
        state: Any = self.state
        if self._together:
            alarms: Mapping[str, Alarm] = state.alarms
            return alarms
        return {} if state.alarm is None else {self._account: state.alarm}

    def _sent(self, account: str) -> int:
        """Returns the number of rows of an account that the state has seen."""
        if self._together:
            return int(self.detector.sent(self.state, account))
        return self.state.rows

    def _clear(self, account: str, clears: int) -> None:
        """Resets the detector's state of an account."""
        self._clears[account] = clears
        if self._together:
            self.state = self.detector.forget(self.state, account)
        else:
            self.state, self.fresh = self.detector.begin(), 0

    def _observe(self, parts: Sequence[Entry]) -> None:
        rows, labels = (np.concatenate(part) for part in zip(*(part[:2] for part in parts), strict=True))
        if self._together:
            accounts = [part.account or "" for part in parts for _ in part.labels]
            if self._linked:
                sent = [part.sent for part in parts for _ in part.labels]
                self.state = self.detector.observe(self.state, rows, labels, accounts, sent)
            else:
                self.state = self.detector.observe(self.state, rows, labels, accounts)
        else:
            self.state = self.detector.observe(self.state, rows, labels)

    def _is_new(self, key: str, account: str | None) -> bool:
        key = key if account is None else f"{account}/{key}"
        if key in self.keys:
            return False
        self.keys[key] = None
        if len(self.keys) > _KEYS:
            del self.keys[next(iter(self.keys))]
        return True
