"""A hash chain: a log in which each entry contains the SHA-256 of the entry before it.

So no entry can be changed, inserted or removed in the middle unnoticed. The store also keeps each log's minimum
length, so that a truncated log is detected too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from defenses.store import Charge, Counter, Store, VersionConflict
from wire import BadInput

_LENGTH = "length"  # the counter with a log's minimum length

Record = tuple[dict[str, Any], bytes]
"""An entry without its link: JSON members, and bytes that follow them."""


class Broken(BadInput):
    """The ledger is inconsistent: part of it was changed or lost."""


class Chain:
    """A chained log in a store.

    Attributes:
        name: Name of the log.
        length: Number of entries read.
        head: Hash of the last entry read, in hexadecimal.
    """

    def __init__(self, store: Store, name: str, fold: Callable[[dict[str, Any], bytes], object]) -> None:
        """Makes a chain; reads nothing yet.

        Args:
            store: The store.
            name: Name of the log.
            fold: Called with each record read.
        """
        self.name, self.length, self.head = name, 0, start_of(name)
        self._store, self._fold = store, fold
        self._least: int | None = None  # the log's minimum length in the store

    async def catch_up(self) -> None:
        """Reads the new entries of the log.

        Raises:
            Broken: An entry does not follow from the one before it, or the log was truncated.
        """
        if self._least is None:
            level = (await self._store.levels(self.name)).get(_LENGTH)
            self._least = 0 if level is None else int(level.as_of)
        tail = await self._store.read(self.name, self.length)
        self._take(tail.start, tail.entries)
        if self.length < self._least:
            raise Broken(f"{self.name}: the log has {self.length} entries, but it had at least {self._least}")

    async def append(self, new: Callable[[], Sequence[Record]]) -> bool:
        """Appends the records that ``new`` returns, until it returns none.

        Calls ``new`` again whenever the log has grown. When this method returns, the loss of any entry of the log
        can be detected.

        Returns:
            Whether it appended anything.
        """
        if self._least is None:
            await self.catch_up()
        appended = False
        while records := new():
            length, head, entries = self.length, self.head, []
            for members, content in records:
                entries.append(orjson.dumps({"previous": head, **members}) + b"\n" + content)
                head = hashlib.sha256(entries[-1]).hexdigest()
            try:
                await self._store.append(self.name, entries, expected=length)
            except VersionConflict:
                await self.catch_up()
                if self.length == length:
                    raise Broken(
                        f"{self.name}: the log has lost some of the {length} entries read from it"
                    ) from None
            else:
                appended = True
                self._take(length, entries)
        if self._least is None or self._least < self.length:
            least = self.length
            await self._store.charge(Charge(self.name, [Counter(_LENGTH, 0, refill=1.0, as_of=least)]))
            self._least = max(self._least or 0, least)
        return appended

    def _take(self, start: int, entries: Sequence[bytes]) -> None:
        """Folds entries from a position on; another task may have folded some of them meanwhile."""
        for entry in entries[self.length - start :]:
            members, content, self.head = follow(self.name, self.length, self.head, entry)
            self.length += 1
            self._fold(members, content)


def start_of(name: str) -> str:
    """Returns the hash that the first entry of a log contains, in hexadecimal."""
    return hashlib.sha256(name.encode()).hexdigest()


def follow(name: str, position: int, head: str, entry: bytes) -> tuple[dict[str, Any], bytes, str]:
    """Returns the JSON members of an entry, the bytes that follow them, and the entry's hash.

    Raises:
        Broken: The entry does not follow from the one with the hash ``head``.
    """
    line, _, content = entry.partition(b"\n")
    try:
        members: dict[str, Any] = orjson.loads(line)
        previous = members.pop("previous")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Broken(f"{name}: entry {position} is invalid") from None
    if previous != head:
        raise Broken(f"{name}: entry {position} follows {previous}, but the hash before it is {head}")
    return members, content, hashlib.sha256(entry).hexdigest()
