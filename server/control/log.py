"""Accounts, their keys and the stacks that administrators put in place: one log, folded in every worker's memory.

Each charge tells the store up to where its worker has read the log, so a worker that is behind learns it in that
round trip, reads on and asks again: revoking a key or replacing a stack holds for all workers from that moment
on. The log is also the audit: every event says who did it and when.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

import orjson

from defenses.microbatch import MicroBatch
from defenses.monitoring.records import cleared
from defenses.reactions.alarm import StandingAlarm
from defenses.store import CONTROL, Store, VersionConflict
from wire import BadInput, Refused

log = logging.getLogger(__name__)

VERSION = 1  # of the snapshot's and the events' schema
COMPACT_AFTER = 1000  # events
AUDITED = 1000  # events that a snapshot keeps for the audit

Event = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Account:
    """Who asks.

    Attributes:
        name: The account's name.
        plan: Name of its plan.
    """

    name: str
    plan: str


@dataclass
class State:
    """What the events come to.

    Attributes:
        plans: Plan of each account.
        keys: Hash and account of each key, by the key's id.
        stacks: Stacks that were put in place of the configured ones, by model.
        alarms: The alarms that stand, by account, model and detector.
        audit: The last events, with the ids of keys in place of their hashes.
    """

    plans: dict[str, str] = field(default_factory=dict)
    keys: dict[str, list[str]] = field(default_factory=dict)
    stacks: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    alarms: dict[str, dict[str, dict[str, Event]]] = field(default_factory=dict)
    audit: list[Event] = field(default_factory=list)

    def fold(self, event: Event) -> None:
        """Applies an event."""
        match event["do"]:
            case "create account":
                self.plans[event["account"]] = event["plan"]
                self.keys[key_id(event["key"])] = [event["key"], event["account"]]
            case "create key":
                self.keys[key_id(event["key"])] = [event["key"], event["account"]]
            case "revoke keys":
                for key in event["keys"]:
                    self.keys.pop(key, None)
            case "set plan":
                self.plans[event["account"]] = event["plan"]
            case "replace defenses":
                self.stacks[event["model"]] = event["defenses"]
            case "restore defenses":
                self.stacks.pop(event["model"], None)
            case "raise alarm":
                self.alarms.setdefault(event["account"], {}).setdefault(event["model"], {})[event["detector"]] = (
                    event
                )
            case "clear alarm":
                self.alarms.get(event["account"], {}).get(event["model"], {}).pop(event["detector"], None)
            case "commit to marks" | "open the key of marks":  # for the audit
                pass
            case unknown:
                raise Refused(
                    f"the control log holds {unknown!r}, which this server is too old to know", status=503
                )
        told = {**event, "key": key_id(event["key"])} if "key" in event else event
        self.audit = [*self.audit[1 - AUDITED :], told]


class ControlLog:
    """The control log of a store, and what it comes to."""

    def __init__(
        self, store: Store, clock: Callable[[], float], changed: Callable[[], None] = lambda: None
    ) -> None:
        """Takes the store where the log is.

        Args:
            store: The store.
            clock: Stamps events.
            changed: Is called when events were folded, before anybody can charge at the new position.
        """
        self._store, self._clock, self._changed = store, clock, changed
        self.state = State()
        self.position = 0
        self._compacted = 0  # the position of the log's snapshot
        self._reads = MicroBatch[None, None](self._read_on)

    async def catch_up(self) -> None:
        """Reads what the log has gained.

        Raises:
            Refused: The store is away, or the log was written by a newer server (503).
        """
        await self._reads(None)

    async def _read_on(self, askers: Sequence[None]) -> Sequence[None]:
        tail = await self._store.read(CONTROL, self.position)
        if tail.end == self.position:
            return [None] * len(askers)
        if tail.end < self.position:
            log.error(
                "the control log ends at %d, but was read up to %d: it is read anew", tail.end, self.position
            )
            self.state, self.position, self._compacted = State(), 0, 0
            tail = await self._store.read(CONTROL)
        try:
            if tail.snapshot is not None:
                self._restore(tail.snapshot)
                self.position = self._compacted = tail.start
            for entry in tail.entries:
                self.state.fold(orjson.loads(entry))
                self.position += 1
        finally:
            self._changed()
        if self.position - self._compacted >= COMPACT_AFTER:
            snapshot = orjson.dumps({"version": VERSION, **asdict(self.state)})
            await self._store.compact(CONTROL, self.position, snapshot)
            self._compacted = self.position
        return [None] * len(askers)

    def _restore(self, snapshot: bytes) -> None:
        state = orjson.loads(snapshot)
        version = state.pop("version")
        if version != VERSION:
            newer = f"the control log's snapshot is of version {version}, and this server reads {VERSION}"
            raise Refused(newer, status=503)
        self.state = State(**state)

    def authenticate(self, authorization: str | None) -> Account:
        """Tells whose key an ``Authorization`` header holds.

        Raises:
            Refused: It holds none, or one that is not known (401).
        """
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not key:
            raise Refused("no key: expected the header 'Authorization: Bearer <key>'", status=401)
        hashed = _hashed(key.strip())
        expected, name = self.state.keys.get(key_id(hashed), ["", ""])
        if not hmac.compare_digest(expected, hashed):
            raise Refused("the key is not known here", status=401)
        return Account(name, self.state.plans[name])

    def accounts(self) -> list[Account]:
        """Lists the accounts by name."""
        return [Account(name, plan) for name, plan in sorted(self.state.plans.items())]

    def keys_of(self, name: str) -> list[str]:
        """Returns the ids of an account's keys."""
        return [key for key, (_, account) in self.state.keys.items() if account == name]

    async def create(self, name: str, plan: str, by: str) -> str:
        """Makes an account.

        Args:
            name: Its name.
            plan: Name of its plan.
            by: Who does it, for the audit.

        Returns:
            Its key, which cannot be had again.

        Raises:
            BadInput: There is an account of that name, or it is no name.
        """
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", name):
            raise BadInput(f"account name {name!r}: expected up to 64 letters, digits, '-' and '_'")
        key = _drawn()

        def event() -> Event:
            if name in self.state.plans:
                raise BadInput(f"there is an account {name!r} already")
            return {"do": "create account", "account": name, "plan": plan, "key": _hashed(key)}

        await self._write(event, by)
        return key

    async def add_key(self, name: str, by: str) -> str:
        """Gives an account a further key, and returns it.

        Raises:
            BadInput: There is no such account.
        """
        key = _drawn()
        await self._write(lambda: {"do": "create key", "account": self._known(name), "key": _hashed(key)}, by)
        return key

    async def revoke(self, name: str, by: str, keep: str | None = None, only: str | None = None) -> int:
        """Revokes keys of an account, from this moment on, for all workers.

        Args:
            name: Name of the account.
            by: Who does it, for the audit.
            keep: Id of a key that stays, if any.
            only: Id of the one key to revoke; None revokes all.

        Returns:
            How many were revoked.

        Raises:
            BadInput: There is no such account or key.
        """
        revoked: list[str] = []

        def event() -> Event:
            keys = self.keys_of(self._known(name))
            if only is not None and only not in keys:
                raise BadInput(f"account {name!r} has no key {only!r}; it has {', '.join(keys) or 'none'}")
            revoked[:] = [key for key in keys if key != keep and only in (None, key)]
            return {"do": "revoke keys", "account": name, "keys": revoked}

        await self._write(event, by)
        return len(revoked)

    async def rotate(self, name: str, by: str) -> str:
        """Gives an account a new key, revokes the others, and returns it."""
        key = await self.add_key(name, by)
        await self.revoke(name, by, keep=key_id(_hashed(key)))
        return key

    async def set_plan(self, name: str, plan: str, by: str) -> None:
        """Puts an account on another plan.

        Raises:
            BadInput: There is no such account.
        """
        await self._write(lambda: {"do": "set plan", "account": self._known(name), "plan": plan}, by)

    async def replace_stack(self, model: str, stack: list[dict[str, Any]] | None, by: str) -> None:
        """Puts a stack in place of a model's configured one; None restores that."""
        if stack is None:
            await self._write(lambda: {"do": "restore defenses", "model": model}, by)
        else:
            await self._write(lambda: {"do": "replace defenses", "model": model, "defenses": stack}, by)

    def alarms(self, model: str, account: str) -> Sequence[StandingAlarm]:
        """Returns the alarms of an account at a model."""
        raised = self.state.alarms.get(account, {}).get(model)
        return () if not raised else tuple(map(StandingAlarm.of, raised.values()))

    def all_alarms(self) -> list[StandingAlarm]:
        """Lists all alarms that stand, the last one last."""
        models = [model for models in self.state.alarms.values() for model in models.values()]
        standing = [StandingAlarm.of(alarm) for model in models for alarm in model.values()]
        return sorted(standing, key=lambda alarm: alarm.at)

    async def raise_alarm(
        self, account: str, model: str, detector: str, look: Callable[[], Awaitable[Event | None]]
    ) -> None:
        """Raises an alarm, unless it stands.

        Clearing one lets the detector start anew before the control log says so. So who finds no alarm here and
        still finds one there was not overtaken.

        Args:
            account: Whose.
            model: Name of the model.
            detector: What found it.
            look: Reads the account's log on, and tells what was found; None if it no longer holds.
        """

        def standing() -> bool:
            return detector in self.state.alarms.get(account, {}).get(model, {})

        while not standing():
            await self.catch_up()
            position = self.position
            if standing() or (found := await look()) is None:
                return
            event = {"do": "raise alarm", "account": account, "model": model, "detector": detector, **found}
            with suppress(VersionConflict):
                stamped = {**event, "by": detector, "at": self._clock()}
                await self._store.append(CONTROL, [orjson.dumps(stamped)], expected=position)
            await self.catch_up()

    async def clear_alarm(self, account: str, model: str, detector: str, by: str) -> StandingAlarm:
        """Clears an alarm, and lets the detector start anew with the account.

        Returns:
            The alarm.

        Raises:
            Refused: No such alarm stands (404).
        """
        await self.catch_up()
        alarm = self.state.alarms.get(account, {}).get(model, {}).get(detector)
        if alarm is None:
            raise Refused(f"no alarm of {detector} stands for account {account!r} at model {model!r}", status=404)
        await self._store.append(alarm["log"], [cleared(account)])
        named = {"account": account, "model": model, "detector": detector}
        await self._write(lambda: {"do": "clear alarm", **named}, by)
        return StandingAlarm.of(alarm)

    async def note(self, event: Event, by: str) -> None:
        """Notes for the audit what was done elsewhere."""
        await self._write(lambda: event, by)

    async def _write(self, event: Callable[[], Event], by: str) -> None:
        """Appends an event that is made from the state it is to follow."""
        while True:
            await self.catch_up()
            stamped = {**event(), "by": by, "at": self._clock()}
            try:
                await self._store.append(CONTROL, [orjson.dumps(stamped)], expected=self.position)
            except VersionConflict:
                continue
            await self.catch_up()
            return

    def _known(self, name: str) -> str:
        if name not in self.state.plans:
            raise BadInput(f"there is no account {name!r}")
        return name


def key_id(hashed: str) -> str:
    """Returns what a key is called, given its hash."""
    return hashed[:12]


def _drawn() -> str:
    return "mlr_" + secrets.token_urlsafe(32)


def _hashed(key: str) -> str:
    # Keys are 256 random bits: a plain hash cannot be inverted by guessing.
    return hashlib.sha256(key.encode()).hexdigest()
