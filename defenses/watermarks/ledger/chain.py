"""A chained log: each entry names the SHA-256 of the entry before it.

So no entry can be changed, inserted or left out in the middle. The store also keeps how long each log is at least,
so that a log that has lost its end is found too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from defenses.store import Charge, Counter, Store, VersionConflict
from wire import BadInput

_LENGTH = "length"  # the counter that holds how long a log is at least

Record = tuple[dict[str, Any], bytes]
"""An entry without its link: JSON members, and bytes that follow them."""


class Broken(BadInput):
    """The ledger is inconsistent: a part of it was changed or lost."""


class Chain:
    """A chained log in a store.

    Attributes:
        name: Name of the log.
        length: How many entries were read.
        head: Hash of the last of them, in hexadecimal.
    """

    def __init__(self, store: Store, name: str, fold: Callable[[dict[str, Any], bytes], object]) -> None:
        """Takes the store, the log's name, and a function that is called with each record that was read."""
        self.name, self.length, self.head = name, 0, start_of(name)
        self._store, self._fold = store, fold
        self._least: int | None = None  # length that the store knows the log to have at least

    async def catch_up(self) -> None:
        """Reads the entries that are new in the log.

        Raises:
            Broken: An entry does not follow from the one before it, or the log has lost its end.
        """
        if self._least is None:
            level = (await self._store.levels(self.name)).get(_LENGTH)
            self._least = 0 if level is None else int(level.as_of)
        tail = await self._store.read(self.name, self.length)
        for entry in tail.entries[self.length - tail.start :]:  # another task may have read some meanwhile
            members, content, self.head = follow(self.name, self.length, self.head, entry)
            self.length += 1
            self._fold(members, content)
        if self.length < self._least:
            raise Broken(
                f"{self.name}: the log ends after {self.length} entries, but it had at least {self._least}"
            )

    async def append(self, new: Callable[[], Sequence[Record]]) -> None:
        """Appends the records that ``new`` returns, until it returns none.

        ``new`` is called again whenever the log has grown. The entries that are in the log when this returns can
        no longer be lost unnoticed.
        """
        await self.catch_up()
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
                await self.catch_up()
        if self._least is None or self._least < self.length:
            least = self.length
            await self._store.charge(Charge(self.name, [Counter(_LENGTH, 0, refill=1.0, as_of=least)]))
            self._least = max(self._least or 0, least)


def start_of(name: str) -> str:
    """Returns the hash that the first entry of a log names, in hexadecimal."""
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
        raise Broken(f"{name}: entry {position} is not readable") from None
    if previous != head:
        raise Broken(f"{name}: entry {position} follows {previous}, but the hash before it is {head}")
    return members, content, hashlib.sha256(entry).hexdigest()
