"""Where stateful defences and accounts remember: JSON documents by key, changed in atomic steps.

A store is named by a URL: ``sqlite:///PATH`` (``sqlite://`` alone keeps everything in memory) or ``redis://HOST:PORT/N``.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import orjson
import redis.asyncio as redis

from wire import BadInput, Refused

T = TypeVar("T")

Document = dict[str, Any]
Documents = dict[str, Document]


class Store(Protocol):
    """Documents by key. A store that is away raises :class:`~wire.Refused` (503): defences fail closed."""

    async def transact(
        self,
        keys: Sequence[str],
        step: Callable[[Documents], T],
        *,
        keep: Mapping[str, float] | None = None,
        now: float = 0.0,
    ) -> T:
        """Changes some documents together, or not at all.

        Args:
            keys: The documents that the step sees.
            step: Is given the documents that exist, by key, and edits that mapping in place; it may be run more
                than once, and what it raises leaves everything as it was.
            keep: Until when (seconds since the epoch) each of these documents must be kept; others are kept for
                good.
            now: Seconds since the epoch, at which documents that need not be kept any more may go.

        Returns:
            What the step returned.
        """
        ...

    async def read(self, key: str) -> Document | None:
        """Returns a document, or None."""
        ...

    async def find(self, prefix: str) -> Documents:
        """Returns all documents whose keys begin so."""
        ...

    async def close(self) -> None:
        """Closes the connection."""
        ...


def open_store(url: str) -> Store:
    """Opens the store that a URL names.

    Raises:
        BadInput: The URL names no kind of store that there is.
    """
    kind, _, rest = url.partition("://")
    if kind == "sqlite":
        return SQLiteStore(rest.removeprefix("/") or ":memory:")
    if kind in ("redis", "rediss", "unix"):
        return RedisStore(url)
    raise BadInput(f"store {url!r}: expected sqlite:///PATH or redis://HOST:PORT/N")


class SQLiteStore:
    """Documents in a SQLite file, which other processes of this machine may use too."""

    def __init__(self, path: str) -> None:
        """Opens the file ``path``, and makes it if there is none."""
        if path != ":memory:":
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        try:
            self._db = sqlite3.connect(path, timeout=10.0, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS documents "
                "(key TEXT PRIMARY KEY, value BLOB NOT NULL, keep REAL) WITHOUT ROWID"
            )
            self._db.execute("CREATE INDEX IF NOT EXISTS keeps ON documents (keep) WHERE keep IS NOT NULL")
        except sqlite3.Error as error:
            raise BadInput(f"store {path}: {error}") from None

    async def transact(
        self,
        keys: Sequence[str],
        step: Callable[[Documents], T],
        *,
        keep: Mapping[str, float] | None = None,
        now: float = 0.0,
    ) -> T:
        """Changes some documents together; see :class:`Store`."""
        keep = keep or {}
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                documents = {key: value for key in keys if (value := self._get(key)) is not None}
                result = step(documents)
                for key in keys:
                    if key in documents:
                        self._db.execute(
                            "REPLACE INTO documents VALUES (?, ?, ?)",
                            (key, orjson.dumps(documents[key]), keep.get(key)),
                        )
                    else:
                        self._db.execute("DELETE FROM documents WHERE key = ?", (key,))
                if keep:
                    self._db.execute("DELETE FROM documents WHERE keep < ?", (now,))
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            raise _away(error) from error
        return result

    async def read(self, key: str) -> Document | None:
        """Returns a document, or None."""
        try:
            return self._get(key)
        except sqlite3.Error as error:
            raise _away(error) from error

    async def find(self, prefix: str) -> Documents:
        """Returns all documents whose keys begin so."""
        rows = self._db.execute(
            "SELECT key, value FROM documents WHERE key >= ? AND key < ?", (prefix, prefix + "\U0010ffff")
        )
        return {key: orjson.loads(value) for key, value in rows}

    async def close(self) -> None:
        """Closes the file."""
        self._db.close()

    def _get(self, key: str) -> Document | None:
        row = self._db.execute("SELECT value FROM documents WHERE key = ?", (key,)).fetchone()
        return None if row is None else orjson.loads(row[0])


class RedisStore:
    """Documents in Redis, for many workers and hosts; steps are optimistic transactions (WATCH, MULTI, EXEC)."""

    _PREFIX = "mlaas:"

    def __init__(self, url: str) -> None:
        """Takes a ``redis://`` URL; the connection is made at the first use."""
        self._redis = redis.Redis.from_url(url)

    async def transact(
        self,
        keys: Sequence[str],
        step: Callable[[Documents], T],
        *,
        keep: Mapping[str, float] | None = None,
        now: float = 0.0,
    ) -> T:
        """Changes some documents together; see :class:`Store`."""
        keep = keep or {}
        names = [self._PREFIX + key for key in keys]
        try:
            async with self._redis.pipeline(transaction=True) as pipe:
                while True:
                    await pipe.watch(*names)
                    found = zip(keys, await pipe.mget(names), strict=True)
                    documents = {key: orjson.loads(value) for key, value in found if value is not None}
                    result = step(documents)
                    pipe.multi()  # type: ignore[no-untyped-call]
                    for key, name in zip(keys, names, strict=True):
                        if key in documents:
                            until = int(keep[key]) + 1 if key in keep else None
                            pipe.set(name, orjson.dumps(documents[key]), exat=until)
                        else:
                            pipe.delete(name)
                    try:
                        await pipe.execute()
                    except redis.WatchError:
                        await asyncio.sleep(0)
                        continue
                    return result
        except redis.RedisError as error:
            raise _away(error) from error

    async def read(self, key: str) -> Document | None:
        """Returns a document, or None."""
        try:
            value = await self._redis.get(self._PREFIX + key)
        except redis.RedisError as error:
            raise _away(error) from error
        return None if value is None else orjson.loads(value)

    async def find(self, prefix: str) -> Documents:
        """Returns all documents whose keys begin so."""
        try:
            names = [name async for name in self._redis.scan_iter(self._PREFIX + prefix + "*")]
            values = await self._redis.mget(names) if names else []
        except redis.RedisError as error:
            raise _away(error) from error
        return {
            name.decode().removeprefix(self._PREFIX): orjson.loads(value)
            for name, value in zip(names, values, strict=True)
            if value is not None
        }

    async def close(self) -> None:
        """Closes the connections."""
        await self._redis.aclose()


def _away(error: Exception) -> Refused:
    return Refused(f"the store is away: {type(error).__name__}", status=503, retry_after=1)
