"""A detector at a served model: what an account asks is logged and folded before its answer leaves.

An account's state is a fold over its append-only log in the store, so workers agree and a restart loses nothing. A
worker keeps the state in memory and reads only what others appended in between. A detector that watches all
accounts together (:class:`CrossAccountDetector`) has one log and one state for all of them.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from typing import Annotated, Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
import orjson
from pydantic import SkipValidation

from defenses.defense import Defense, Handler
from defenses.microbatch import MicroBatch
from defenses.monitoring.nearest import pixels
from defenses.store import Store
from wire import Answer, Array, BadInput, Card, Labels, Query, Refused

log = logging.getLogger(__name__)

_COMPACTED = 4096  # rows at least, and as many as the state has, between two snapshots
_HELD = 2**28  # bytes of states that a layer holds, beside those that are at work
_SHORT = 2**29  # bytes of new rows times old ones: a few milliseconds, for which a thread needs twice as long
_BESIDE = 2**14  # bytes of a state beside its arrays
_RECEIPTS = 4096  # of an account's requests that are remembered
_RECEIPT = 200  # bytes that each of them takes

_EVERYBODY = "*"  # the name of a log of all accounts; no account is called so


class Alarm(Protocol):
    """What a detector found, ``row`` rows after the state began."""

    @property
    def row(self) -> int: ...  # noqa: D102
    @property
    def statistic(self) -> float: ...  # noqa: D102


class State(Protocol):
    """What a detector remembers.

    It also has ``alarm``, the account's first alarm or None; of a :class:`CrossAccountDetector`, ``alarms``, by
    account.
    """

    @property
    def rows(self) -> int:
        """How many rows it has seen, or keeps if it forgets some."""
        ...

    @property
    def nbytes(self) -> int:
        """The memory that its arrays take."""
        ...

    def to_bytes(self) -> bytes:
        """Returns all of it."""
        ...


class Detector(Protocol):
    """A pure fold over an account's rows, or over what a :class:`Featurizer` one notes of them."""

    def begin(self, saved: bytes | None = None) -> Any:
        """Returns the state of an account of no rows, or one that was saved (ValueError if that is broken)."""
        ...

    def observe(self, state: Any, rows: Array, labels: Labels) -> Any:
        """Takes rows ``(n, ...)`` and the victim's labels ``(n,)``, however they are split into calls."""
        ...


@runtime_checkable
class CrossAccountDetector(Protocol):
    """A detector that watches all accounts of a model together, in one state."""

    def begin(self, saved: bytes | None = None) -> Any:
        """Returns the state of no rows, or one that was saved (ValueError if that is broken)."""
        ...

    def observe(self, state: Any, rows: Array, labels: Labels, accounts: Sequence[str]) -> Any:
        """Takes rows ``(n, ...)``, the victim's labels ``(n,)`` and who asked about each, as a detector does."""
        ...

    def forget(self, state: Any, account: str) -> Any:
        """Lets what was found of an account start anew; what it asked may still count for others."""
        ...


@runtime_checkable
class Featurizer(Protocol):
    """A detector that needs no rows but what other models say of them: the log keeps that in their place."""

    async def prepare(self, card: Card) -> None:
        """Gets what it takes to note the rows of a victim.

        Raises:
            BadInput: That cannot be had, or is for other victims.
        """
        ...

    async def note(self, x: Array, labels: Labels) -> Array:
        """Returns what is kept of rows ``(n, *input_shape)`` and the victim's labels ``(n,)``.

        It has n rows of bytes or float32, each a function of its row and label alone, and is what
        :meth:`Detector.observe` takes, in rows of one axis.
        """
        ...


class Alarms(Protocol):
    """Where alarms are raised."""

    async def raise_alarm(
        self, account: str, model: str, detector: str, look: Callable[[], Awaitable[dict[str, Any] | None]]
    ) -> None:
        """Raises an alarm unless it stands; ``look`` tells what is known of it, None if it no longer holds."""
        ...


@dataclass
class _Memory:
    """How many bytes of states a layer holds."""

    held: int = 0


@dataclass(frozen=True)
class Monitor:
    """Lets a detector watch accounts; stands innermost, so that it sees what the bare victim said.

    A changed detector or victim starts anew, with logs of its own. A request that is retried under its id, and so
    billed once, is observed once, if no more than 4,096 requests with ids lie between; so it does not matter
    whether the rows of a request that failed had been logged. Without an id a retry is a request like others.

    Attributes:
        detector: The detector.
        kind: What it is called.
        model: Name of the model.
        victim: SHA-256 of its weights, in hexadecimal.
        store: Where the logs are.
        alarms: Where alarms are raised.
        reaction: What becomes of an account that raised an alarm: nothing (``log``), it is refused, slowed down,
            told labels alone or rounded probabilities (``coarsen``), or told shuffled ones (``deceive``).
        digits: Decimals that are left by ``coarsen``; None leaves labels alone.
        open: Whether rows that cannot be logged are answered, and go unwatched, rather than refused.
    """

    __pydantic_config__ = {"arbitrary_types_allowed": True}  # noqa: RUF012  # for detector and store

    detector: Annotated[Detector | CrossAccountDetector, SkipValidation]
    kind: str
    model: str
    victim: str
    store: Annotated[Store, SkipValidation] = field(repr=False)
    alarms: Annotated[Alarms, SkipValidation] = field(repr=False)
    reaction: Literal["log", "refuse", "slow", "coarsen", "deceive"] = "log"
    digits: int | None = None
    open: bool = False
    _accounts: OrderedDict[str, AccountState] = field(
        default_factory=OrderedDict, init=False, repr=False, compare=False
    )
    _memory: _Memory = field(default_factory=_Memory, init=False, repr=False, compare=False)
    _noting: Any = field(init=False, repr=False, compare=False)
    _together: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_together", isinstance(self.detector, CrossAccountDetector))
        object.__setattr__(self, "_noting", self.detector if isinstance(self.detector, Featurizer) else None)
        if self.digits is not None and (self.reaction != "coarsen" or not 0 <= self.digits <= 8):
            raise BadInput(
                f"{self.kind}: digits go with the reaction coarsen and lie between 0 and 8, "
                f"not with {self.reaction} and {self.digits}"
            )

    async def __call__(self, query: Query, handle: Handler) -> Answer:
        """Answers once the rows are in the account's log.

        Raises:
            Refused: The store is away, or the log cannot be read (503).
        """
        answer = await handle(query)
        rows = query.x if self._noting is None else await self._noting.note(query.x, answer.labels)
        try:
            logged = entry(rows, answer.labels, query.idempotency_key, query.account if self._together else None)
            await self.account(query.account).take(logged)
        except Refused as refused:
            if not self.open:
                raise
            log.error("model %s: rows of account %s go unwatched: %s", self.model, query.account, refused)
        return answer

    def account(self, name: str) -> AccountState:
        """Returns what is known here of an account, or of all of them if they are watched together."""
        name = _EVERYBODY if self._together else name
        if name not in self._accounts:
            self._accounts[name] = AccountState(self, name)
            self._memory.held += self._accounts[name].nbytes
        self._accounts.move_to_end(name)
        return self._accounts[name]

    async def begin(self, card: Card, inside: Sequence[Defense], outside: Sequence[Defense]) -> None:
        """Lets the detector prepare itself; reads nothing.

        Raises:
            BadInput: The detector cannot, or the layer stands outside what changes answers.
        """
        for layer in inside:
            if not isinstance(layer, Monitor):
                raise BadInput(
                    f"{self.kind}: {type(layer).__name__} stands inside it and changes what the victim says; "
                    "detectors come last in a stack"
                )
            if layer.kind == self.kind:
                raise BadInput(
                    f"{self.kind}: stands twice; an account has one alarm of a kind at a model, so that of one "
                    "would hide the other's and its reaction"
                )
        if self._noting is not None:
            await self._noting.prepare(card)

    def disclose(self, card: Card) -> Card:
        """Leaves the card as it is; rows must be numbers, none of them missing."""
        if card.dtype == "BYTES" or card.missing:
            what = "texts" if card.dtype == "BYTES" else "rows with missing features"
            raise BadInput(f"{self.kind}: the model takes {what}; expected rows of numbers")
        return card

    def resize(self, name: str, account: AccountState, nbytes: int) -> None:
        """Notes what an account takes now, and drops what was not used for longest; it can be read again."""
        if self._accounts.get(name) is account:  # else it was dropped
            self._memory.held += nbytes - account.nbytes
        account.nbytes = nbytes
        while self._memory.held > _HELD and len(self._accounts) > 1:
            self._memory.held -= self._accounts.popitem(last=False)[1].nbytes


class AccountState:
    """An account, or all of them, as one worker knows it.

    Attributes:
        log: Name of its log.
        state: The detector's.
        position: Up to where the log is folded.
        nbytes: The memory that the state takes.
        take: Logs and folds an entry; those that come meanwhile share the next trip.
    """

    def __init__(self, layer: Monitor, name: str) -> None:
        """Knows nothing yet."""
        self._layer, self._name = layer, name
        settings = hashlib.sha256(f"{layer.detector}\n{layer.victim}".encode()).hexdigest()[:16]
        self.log = f"watch/{layer.model}/{layer.kind}/{settings}/{name}"
        self.nbytes = _BESIDE
        self.take = MicroBatch[bytes, None](self._take)
        self._forget()

    def _forget(self) -> None:
        self.state: State = self._layer.detector.begin()
        self.position = 0
        self._fresh = 0  # rows in the log since the snapshot
        self._receipts: dict[str, None] = {}  # of the last requests, in order

    async def catch_up(self) -> None:
        """Folds what the log has gained; only one call may go on at a time.

        Raises:
            Refused: The store is away, or the log cannot be read (503).
        """
        tail = await self._layer.store.read(self.log, self.position)
        if tail.start < self.position:
            self._forget_what_was_lost(tail.end)
            tail = await self._layer.store.read(self.log)
        await self._fold(tail.entries, tail.start, tail.snapshot)

    def _forget_what_was_lost(self, end: int) -> None:
        """Begins anew, since the store came back with less than it had taken."""
        log.error("%s ends at %d, but was read up to %d: it is read anew", self.log, end, self.position)
        self._forget()

    async def _take(self, entries: Sequence[bytes]) -> list[None]:
        end = await self._layer.store.append(self.log, entries)
        if end < self.position + len(entries):
            self._forget_what_was_lost(end - len(entries))
        if end == self.position + len(entries):
            await self._fold(entries, self.position)
        else:
            await self.catch_up()
        for account in list(self._alarms()):
            look = partial(self._look, account)
            await self._layer.alarms.raise_alarm(account, self._layer.model, self._layer.kind, look)
        if self._fresh >= max(_COMPACTED, self.state.rows - self._fresh):
            await self._layer.store.compact(self.log, self.position, await asyncio.to_thread(self._snapshot))
            self._fresh = 0
        return [None] * len(entries)

    async def _fold(self, entries: Sequence[bytes], start: int, snapshot: bytes | None = None) -> None:
        try:
            if snapshot is None and sum(map(len, entries)) * (self.state.rows + 1) < _SHORT:
                self._folded(entries, start, snapshot)
            else:
                await asyncio.to_thread(self._folded, entries, start, snapshot)
        except ValueError as fault:
            log.error("no row of account %s is answered: %s: %s", self._name, self.log, fault)
            self._forget()  # what was folded in part
            raise Refused("the log of this account cannot be read", status=503) from fault
        nbytes = _BESIDE + _RECEIPT * len(self._receipts) + self.state.nbytes
        self._layer.resize(self._name, self, nbytes)

    def _folded(self, entries: Sequence[bytes], start: int, snapshot: bytes | None) -> None:
        if snapshot is not None:
            idempotency_keys, saved = read_snapshot(snapshot)
            self.state, self.position, self._fresh = self._layer.detector.begin(saved), start, 0
            self._receipts = dict.fromkeys(idempotency_keys)
        kind = lambda read: read.rows.dtype if isinstance(read, Entry) else None  # noqa: E731
        for _, run in groupby(map(read_entry, entries), key=kind):
            taken = 0
            parts = []
            for read in run:
                taken += 1
                if isinstance(read, Cleared):
                    self._clear(read.account)
                else:
                    self._fresh += len(read.labels)
                    if self._is_new(read):
                        parts.append(read)
            if parts:  # many small entries are folded at once
                self._observe(parts)
            self.position += taken

    def _clear(self, account: str) -> None:
        detector = self._layer.detector
        if isinstance(detector, CrossAccountDetector):
            self.state = detector.forget(self.state, account)
        else:
            self.state, self._fresh = detector.begin(), 0

    def _observe(self, parts: Sequence[Entry]) -> None:
        detector = self._layer.detector
        rows, labels = (np.concatenate(part) for part in zip(*(part[:2] for part in parts), strict=True))
        if isinstance(detector, CrossAccountDetector):
            accounts = [part.account or "" for part in parts for _ in part.labels]
            self.state = detector.observe(self.state, rows, labels, accounts)
        else:
            self.state = detector.observe(self.state, rows, labels)

    def _alarms(self) -> Mapping[str, Alarm]:
        state: Any = self.state
        if isinstance(self._layer.detector, CrossAccountDetector):
            alarms: Mapping[str, Alarm] = state.alarms
            return alarms
        return {} if state.alarm is None else {self._name: state.alarm}

    def _is_new(self, read: Entry) -> bool:
        if read.idempotency_key is None:
            return True
        idempotency_key = (
            read.idempotency_key if read.account is None else f"{read.account}/{read.idempotency_key}"
        )
        if idempotency_key in self._receipts:
            return False
        self._receipts[idempotency_key] = None
        if len(self._receipts) > _RECEIPTS:
            del self._receipts[next(iter(self._receipts))]
        return True

    def _snapshot(self) -> bytes:
        return orjson.dumps({"receipts": list(self._receipts)}) + b"\n" + self.state.to_bytes()

    async def _look(self, account: str) -> dict[str, Any] | None:
        await self.catch_up()
        alarm = self._alarms().get(account)
        if alarm is None:
            return None
        return {
            "row": alarm.row,
            "statistic": alarm.statistic,
            "reaction": self._layer.reaction,
            "digits": self._layer.digits,
            "log": self.log,
        }


class Entry(NamedTuple):
    """What a log holds of a request.

    Attributes:
        rows: The rows, ``(n, d)``.
        labels: The victim's labels, ``(n,)``.
        idempotency_key: Its idempotency_key, if any.
        account: Who asked, in a log of all accounts.
    """

    rows: Array
    labels: Labels
    idempotency_key: str | None = None
    account: str | None = None


class Cleared(NamedTuple):
    """From here on, what was found of an account starts anew."""

    account: str


def entry(x: Array, labels: Labels, idempotency_key: str | None = None, account: str | None = None) -> bytes:
    """Returns rows ``(n, ...)`` and labels ``(n,)`` as a log holds them: a line of JSON, then bytes or float32."""
    rows = x.reshape(len(x), -1)
    if rows.dtype != np.uint8:
        rows = rows.astype("<f4", copy=False)
        same, shifted = pixels(rows)
        if same.all():
            rows = (shifted.view(np.uint8)) ^ 128
    head = {"labels": labels.tolist(), "pixels": rows.dtype == np.uint8}
    if idempotency_key is not None:
        head["receipt"] = idempotency_key
    if account is not None:
        head["account"] = account
    return orjson.dumps(head) + b"\n" + np.ascontiguousarray(rows).tobytes()


def cleared(account: str) -> bytes:
    """Returns :class:`Cleared` as a log holds it."""
    return orjson.dumps({"cleared": account}) + b"\n"


def read_entry(content: bytes) -> Entry | Cleared:
    """Reads what :func:`entry` or :func:`cleared` wrote.

    Raises:
        ValueError: It is none.
    """
    line, _, octets = content.partition(b"\n")
    try:
        head = orjson.loads(line)
        if "cleared" in head:
            return Cleared(head["cleared"])
        labels = np.array(head["labels"], np.int64)
        rows = np.frombuffer(octets, "u1" if head["pixels"] else "<f4").reshape(len(labels), -1)
        return Entry(rows, labels, head.get("receipt"), head.get("account"))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"this is no entry: {error}") from None


def read_snapshot(content: bytes) -> tuple[list[str], bytes]:
    """Reads a snapshot: the idempotency_keys of the last requests, oldest first, and the saved state.

    Raises:
        ValueError: It is none.
    """
    line, _, saved = content.partition(b"\n")
    try:
        return orjson.loads(line)["receipts"], saved
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"this is no snapshot: {error}") from None
