"""The embedded store: a SQLite file, which several processes on one machine may share."""

from __future__ import annotations

import secrets
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from time import perf_counter

import orjson

from defenses.microbatch import Observe
from defenses.store.counters import (
    BEHIND,
    RECEIPT_SECONDS,
    Charge,
    Counter,
    Level,
    Levels,
    Open,
    OpenCharge,
    Receipt,
    Receipts,
    Verdict,
    add_open,
    charged,
    covers,
    refunded,
    strike,
)
from defenses.store.store import CONTROL, Answered, LogSlice, Outage, VersionConflict
from wire import BadInput, Refused

_TABLES = """
CREATE TABLE IF NOT EXISTS levels (account, name, level, mark, PRIMARY KEY (account, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS receipts
    (account, receipt, at REAL, attempts INTEGER, meters BLOB, PRIMARY KEY (account, receipt)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS old ON receipts (at);
CREATE TABLE IF NOT EXISTS entries (log, position INTEGER, entry BLOB, PRIMARY KEY (log, position)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS snapshots (log PRIMARY KEY, position INTEGER, snapshot BLOB);
CREATE TABLE IF NOT EXISTS workers (worker PRIMARY KEY, seen REAL, open BLOB) WITHOUT ROWID;
"""
_LAYOUT = 1  # version of the tables
_SECONDS = 1.0  # time-out of the file's lock; waiting for it blocks all requests
_REMEMBERED = 2**14  # levels to cache in memory
_PAGES = 8192  # pages of 4 KiB in the write-ahead log before a checkpoint, which blocks all requests on the disk


class SQLiteStore:
    """A store in a file.

    A killed process loses nothing. A power failure loses the transactions since the last checkpoint, except those
    that the system has written by itself (Linux: after some 35 seconds); a consistent earlier state remains.
    """

    def __init__(self, path: str, observe: Observe | None = None) -> None:
        """Opens or creates the file.

        Args:
            path: The file.
            observe: Called after each transaction with its duration in seconds and its number of charges.

        Raises:
            BadInput: The file cannot be opened, or is not a store of this version.
        """
        if path != ":memory:":
            Path(path).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            if path != ":memory:":
                Path(path).touch(mode=0o600)  # SQLite gives its other files the same mode
            self._db = sqlite3.connect(path, timeout=_SECONDS, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.execute(f"PRAGMA wal_autocheckpoint = {_PAGES}")
            layout = self._db.execute("PRAGMA user_version").fetchone()[0]
            tables = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if layout != _LAYOUT and tables:
                raise BadInput(f"store {path}: the layout has version {layout}, but this server reads {_LAYOUT}")
            self._db.executescript(f"{_TABLES}PRAGMA user_version = {_LAYOUT};")
        except (sqlite3.Error, OSError) as error:
            denied = isinstance(error, PermissionError) or "open" in str(error) or "readonly" in str(error)
            hint = "; expected a folder that can be written" if denied else ""
            raise BadInput(f"store {path}: {error}{hint}") from None
        if path != ":memory:" and (mode := Path(path).stat().st_mode & 0o777) & 0o077:
            self._db.close()
            raise BadInput(
                f"store {path}: other users may open it (mode {mode:o}), and it holds a secret; "
                f"run: chmod 600 {path}*"
            )
        self._outage = Outage((sqlite3.Error,), str)
        self._owed: list[Charge] = []  # refunds to make in the next transaction
        # Cached levels and end of the control log, valid until another process writes to the file.
        self._levels: Levels = {}
        self._control: int | None = None
        self._version = 0
        self._worker = secrets.token_hex(8)
        self._open: Open | None = {}  # of this worker
        self._answered = Answered(self._empty_trip)
        self._observe = observe

    async def charge(self, charge: Charge) -> Verdict:
        """Charges an account; see :class:`~defenses.store.Store`."""
        return self._settled([charge])[0]

    async def charge_all(self, charges: Sequence[Charge]) -> Sequence[Verdict]:
        """Makes several charges; see :class:`~defenses.store.Store`."""
        return self._settled(charges)

    async def refund(self, charge: Charge) -> None:
        """Undoes a charge; see :class:`~defenses.store.Store`."""
        self._owed.append(charge)
        with suppress(Refused):  # made in the next transaction
            self._settled([])

    def answered(self, charge: Charge) -> None:
        """Notes that a charge's request was answered."""
        self._answered.add(charge)

    async def open_charges(self) -> list[OpenCharge]:
        """Returns the open charges of all workers."""
        with self._outage.watched(writes=False):
            return self._opened()

    async def reconcile(self, idle: float) -> list[OpenCharge]:
        """Refunds what workers left open that are gone; see :class:`~defenses.store.Store`."""
        with self._transaction():
            self._read_anew()
            gone = [entry for entry in self._opened() if entry.idle >= idle]
            levels: Levels = {}
            for _, _, account, name, refill, as_of, amount in gone:
                charge = Charge(account, (Counter(name, amount, None, refill, as_of),))
                self._fetch(charge, levels, {})
                refunded(charge, levels, {})
            self._write_levels(levels)
            self._db.executemany("DELETE FROM workers WHERE worker = ?", {(entry.worker,) for entry in gone})
        self._levels, self._open = {}, None
        return gone

    async def levels(self, account: str) -> dict[str, Level]:
        """Returns the levels of an account's counters."""
        with self._outage.watched(writes=False):
            rows = self._db.execute("SELECT name, level, mark FROM levels WHERE account = ?", (account,))
            return {name: Level(level, as_of) for name, level, as_of in rows}

    async def append(self, log: str, entries: Sequence[bytes], expected: int | None = None) -> int:
        """Appends to a log; see :class:`~defenses.store.Store`."""
        with self._transaction():
            end = self._end(log)
            if expected is not None and end != expected:
                raise VersionConflict(f"the log {log} ends at {end}, not at {expected}")
            self._control = None
            self._db.executemany(
                "INSERT INTO entries VALUES (?, ?, ?)", [(log, end + i, entry) for i, entry in enumerate(entries)]
            )
        return end + len(entries)

    async def read(self, log: str, start: int = 0) -> LogSlice:
        """Reads a log; see :class:`~defenses.store.Store`."""
        with self._transaction("BEGIN"):
            found = self._db.execute("SELECT position, snapshot FROM snapshots WHERE log = ?", (log,)).fetchone()
            snapshot, start = None, min(start, self._end(log))
            if found is not None and found[0] > start:
                start, snapshot = found
            rows = self._db.execute(
                "SELECT entry FROM entries WHERE log = ? AND position >= ? ORDER BY position", (log, start)
            ).fetchall()
        return LogSlice(start, snapshot, [entry for (entry,) in rows])

    async def compact(self, log: str, upto: int, snapshot: bytes) -> None:
        """Replaces entries by a snapshot; see :class:`~defenses.store.Store`."""
        with self._transaction():
            self._db.execute(
                "INSERT INTO snapshots VALUES (?, ?, ?) ON CONFLICT DO UPDATE "
                "SET position = excluded.position, snapshot = excluded.snapshot "
                "WHERE position < excluded.position",
                (log, upto, snapshot),
            )
            self._db.execute(
                "DELETE FROM entries WHERE log = ? AND position < (SELECT position FROM snapshots WHERE log = ?)",
                (log, log),
            )

    async def probe(self) -> None:
        """Writes, or raises :class:`~wire.Refused` (503)."""
        with self._transaction():
            self._db.execute(f"PRAGMA user_version = {_LAYOUT}")

    def now(self) -> float:
        """Returns the time of this machine, which all processes that share the file have."""
        return time.time()

    async def close(self) -> None:
        """Closes the file."""
        await self._answered.flush()
        self._db.close()

    def _settled(self, charges: Sequence[Charge]) -> list[Verdict]:
        """Makes the refunds that are due, and charges, in one transaction."""
        begun, owed, answered = perf_counter(), list(self._owed), self._answered.take()
        try:
            verdicts = self._written(owed, answered, charges)
        except BaseException:
            self._answered.put_back(answered)
            raise
        self._owed = []
        if self._observe is not None:
            self._observe(perf_counter() - begun, len(owed) + len(charges))
        return verdicts

    def _written(self, owed: Sequence[Charge], answered: Open, charges: Sequence[Charge]) -> list[Verdict]:
        with self._transaction():
            end = self._read_anew()
            if self._open is None:
                self._open = self._open_of(self._worker)
            open_before, open_ = self._open, self._open.copy()
            levels: Levels = {}
            receipts: Receipts = {}
            for charge in (*owed, *charges):
                self._fetch(charge, levels, receipts)
            levels_before, receipts_before = levels.copy(), receipts.copy()
            strike(open_, answered)
            for charge in owed:
                if covers(open_, struck := add_open({}, charge)):
                    strike(open_, struck)
                    refunded(charge, levels, receipts)
            verdicts = [
                charged(charge, levels, receipts) if charge.log_position in (None, end) else BEHIND
                for charge in charges
            ]
            for charge, verdict in zip(charges, verdicts, strict=True):
                if verdict.kind == "charged":
                    add_open(open_, charge)
            risen = {key: level for key, level in levels.items() if level is not levels_before.get(key)}
            self._write_levels(risen)
            if open_:
                listed = orjson.dumps([[*share, amount] for share, amount in open_.items()])
                self._db.execute("REPLACE INTO workers VALUES (?, ?, ?)", (self._worker, time.time(), listed))
            elif open_before:
                self._db.execute("DELETE FROM workers WHERE worker = ?", (self._worker,))
            if receipts or receipts_before:
                self._write_receipts(receipts_before, receipts, max(charge.at for charge in (*owed, *charges)))
        self._open = open_
        self._levels.update(risen)
        return verdicts

    async def _empty_trip(self) -> None:
        await self.refund(Charge("", ()))

    def _opened(self) -> list[OpenCharge]:
        rows = self._db.execute("SELECT worker, seen, open FROM workers").fetchall()
        now = time.time()  # which may have been set back
        return [
            OpenCharge(worker, abs(now - seen), *entry)
            for worker, seen, listed in rows
            for entry in orjson.loads(listed)
        ]

    def _open_of(self, worker: str) -> Open:
        return {
            (account, name, refill, as_of): amount
            for by, _, account, name, refill, as_of, amount in self._opened()
            if by == worker
        }

    def _write_levels(self, levels: Levels) -> None:
        self._db.executemany(
            "REPLACE INTO levels VALUES (?, ?, ?, ?)", [(*key, *level) for key, level in levels.items()]
        )

    def _read_anew(self) -> int:
        """Drops cached values that another process may have changed, and returns the end of the control log."""
        version = self._db.execute("PRAGMA data_version").fetchone()[0]
        if version != self._version or len(self._levels) > _REMEMBERED:
            self._levels, self._control, self._open, self._version = {}, None, None, version
        if self._control is None:
            self._control = self._end(CONTROL)
        return self._control

    def _fetch(self, charge: Charge, levels: Levels, receipts: Receipts) -> None:
        counters = charge.counters
        if charge.idempotency_key:
            key = (charge.account, charge.idempotency_key)
            row = self._db.execute(
                "SELECT at, attempts, meters FROM receipts WHERE account = ? AND receipt = ?", key
            ).fetchone()
            if row is not None:
                receipts[key] = Receipt(row[0], row[1], [Counter(*counter) for counter in orjson.loads(row[2])])
                counters = [*counters, *receipts[key].counters]
        for counter in counters:
            key = (charge.account, counter.name)
            if key in levels:
                continue
            level = self._levels.get(key)
            if level is None:
                level = self._db.execute(
                    "SELECT level, mark FROM levels WHERE account = ? AND name = ?", key
                ).fetchone()
            if level is not None:
                levels[key] = level

    def _write_receipts(self, before: Receipts, after: Receipts, now: float) -> None:
        self._db.executemany(
            "DELETE FROM receipts WHERE account = ? AND receipt = ?",
            [key for key in before if key not in after],
        )
        self._db.executemany(
            "REPLACE INTO receipts VALUES (?, ?, ?, ?, ?)",
            [
                (
                    *key,
                    receipt.at,
                    receipt.attempts,
                    orjson.dumps([[*counter] for counter in receipt.counters]),
                )
                for key, receipt in after.items()
                if receipt is not before.get(key)
            ],
        )
        self._db.execute("DELETE FROM receipts WHERE at < ?", (now - RECEIPT_SECONDS,))

    def _end(self, log: str) -> int:
        row = self._db.execute(
            "SELECT max(coalesce((SELECT max(position) + 1 FROM entries WHERE log = :log), 0), "
            "coalesce((SELECT position FROM snapshots WHERE log = :log), 0))",
            {"log": log},
        ).fetchone()
        return int(row[0])

    @contextmanager
    def _transaction(self, begin: str = "BEGIN IMMEDIATE") -> Iterator[None]:
        with self._outage.watched(writes=begin != "BEGIN"):
            self._db.execute(begin)
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # else SQLite has rolled back by itself
                    self._db.execute("ROLLBACK")
                raise
