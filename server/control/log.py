"""The control log: one append-only log of what administrators and detectors did, which every worker folds.

Each charge carries the position up to which its worker has read the log. A worker that is behind learns this from
the store, reads on and tries again, so revoking a key or replacing a stack takes effect for all workers at once.
The log is also the audit: every event says who did it and when.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

import orjson

from defenses.microbatch import MicroBatch
from defenses.store import CONTROL, Store, VersionConflict
from server.control.accounts import Accounts, key_id
from server.control.alarms import Alarms
from server.control.stacks import Stacks
from wire import Refused

log = logging.getLogger(__name__)

VERSION = 1  # of the snapshot's and the events' schema
COMPACT_AFTER = 1000  # events
AUDITED = 1000  # events that a snapshot keeps for the audit
AUDIT_ONLY = {  # events that change no view
    "commit to marks",
    "open the key of marks",
    "refund unanswered requests",
}

Event = dict[str, Any]


class View(Protocol):
    """A part of the state that the events add up to."""

    def reset(self, saved: dict[str, Any]) -> None:
        """Takes its part of a snapshot; an empty one starts anew."""
        ...

    def save(self) -> dict[str, Any]:
        """Returns its part of a snapshot."""
        ...

    def fold(self, event: Event) -> bool:
        """Applies an event; returns whether it concerns this view."""
        ...


class ControlLog:
    """The control log of a store, as one worker has read it.

    Attributes:
        accounts: Accounts and their keys.
        alarms: The alarms that detectors raised.
        stacks: The stacks that administrators put in place.
        audit: The last events, with the ids of keys in place of their hashes.
        position: Up to where the log was read.
        begun: How often it was read from its beginning, as after a loss of the store.
    """

    def __init__(
        self,
        store: Store,
        clock: Callable[[], float] | None = None,
        changed: Callable[[], None] = lambda: None,
        places: Mapping[str, str] | None = None,
    ) -> None:
        """Has read nothing yet.

        Args:
            store: The store that keeps the log.
            clock: Returns the time for events, in seconds since the epoch; by default the store's.
            changed: Called after events were folded, before anybody can charge at the new position.
            places: For each model, the name that stands for all with its weights; by default its own.
        """
        self.store, self._clock, self._changed = store, clock or store.now, changed
        self.accounts, self.alarms, self.stacks = Accounts(self), Alarms(self, places or {}), Stacks(self)
        self._views: tuple[View, ...] = (self.accounts, self.alarms, self.stacks)
        self.audit: deque[Event] = deque(maxlen=AUDITED)
        self.position = self.begun = 0
        self._compacted = 0  # the position of the log's snapshot
        self._reads = MicroBatch[None, None](self._read_on)

    async def catch_up(self) -> None:
        """Reads what was appended since.

        Raises:
            Refused: The store is unavailable, or the log was written by a newer server (503).
        """
        await self._reads(None)

    async def write(self, make: Callable[[], Awaitable[Event | None]], by: str) -> None:
        """Appends an event that is made from the state that it follows.

        Args:
            make: Returns the event, or None if there is nothing to do. It is called again if the log grew.
            by: The author, for the audit.
        """
        while True:
            await self.catch_up()
            position = self.position
            event = await make()
            if event is None:
                return
            try:
                stamped = {**event, "by": by, "at": self._clock()}
                await self.store.append(CONTROL, [orjson.dumps(stamped)], expected=position)
            except VersionConflict:
                continue
            await self.catch_up()
            return

    async def note(self, event: Event, by: str) -> None:
        """Appends an event for the audit only."""

        async def make() -> Event:
            return event

        await self.write(make, by)

    async def _read_on(self, callers: Sequence[None]) -> Sequence[None]:
        new = await self.store.read(CONTROL, self.position)
        if new.end == self.position:
            return [None] * len(callers)
        if new.end < self.position:
            log.error(
                "the control log ends at %d, but was read up to %d: it is read again", new.end, self.position
            )
            self._reset({})
            self.position = self._compacted = 0
            new = await self.store.read(CONTROL)
        try:
            if new.snapshot is not None:
                self._restore(new.snapshot)
                self.position = self._compacted = new.start
            for entry in new.entries:
                self._fold(orjson.loads(entry))
                self.position += 1
        finally:
            self._changed()
        if self.position - self._compacted >= COMPACT_AFTER:
            await self.store.compact(CONTROL, self.position, self._snapshot())
            self._compacted = self.position
        return [None] * len(callers)

    def _fold(self, event: Event) -> None:
        if not any(view.fold(event) for view in self._views) and event["do"] not in AUDIT_ONLY:
            raise Refused(f"the control log holds {event['do']!r}, which this server does not know", status=503)
        shown = {**event, "key": key_id(event["key"])} if "key" in event else event
        self.audit.append(shown)

    def _snapshot(self) -> bytes:
        state: dict[str, Any] = {"version": VERSION, "audit": list(self.audit)}
        for view in self._views:
            state |= view.save()
        return orjson.dumps(state)

    def _restore(self, snapshot: bytes) -> None:
        saved = orjson.loads(snapshot)
        if saved["version"] != VERSION:
            newer = f"the control log's snapshot has version {saved['version']}; this server reads {VERSION}"
            raise Refused(newer, status=503)
        self._reset(saved)

    def _reset(self, saved: dict[str, Any]) -> None:
        self.begun += 1
        for view in self._views:
            view.reset(saved)
        self.audit = deque(saved.get("audit", []), AUDITED)
