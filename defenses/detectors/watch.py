"""A detector at a served model: what an account asks is logged and folded before its answer leaves.

An account's state is a fold over its append-only log in the store, so workers agree and a restart loses nothing. A
worker keeps the state in memory and reads only what others appended in between.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Annotated, Any, Literal, Protocol

import numpy as np
import orjson
from pydantic import SkipValidation

from defenses.coalesce import Coalesced
from defenses.defense import Defense, Handler
from defenses.detectors.neighbours import pixels
from defenses.store import Store
from wire import Answer, Array, BadInput, Card, Labels, Query, Refused

log = logging.getLogger(__name__)

_COMPACTED = 4096  # rows at least, and as many as the state has, between two snapshots
_HELD = 2**28  # bytes of states that a layer holds, beside those that are at work
_SHORT = 2**29  # bytes of new rows times old ones: a few milliseconds, for which a thread needs twice as long
_BESIDE = 2**14  # bytes of a state beside its arrays

CLEARED = b'{"cleared":true}\n'
"""The entry in an account's log from which its state starts anew."""


class Alarm(Protocol):
    """What a detector found, ``row`` rows after the state began."""

    @property
    def row(self) -> int: ...  # noqa: D102
    @property
    def statistic(self) -> float: ...  # noqa: D102


class State(Protocol):
    """What a detector remembers of an account."""

    @property
    def rows(self) -> int:
        """How many rows it has seen."""
        ...

    @property
    def alarm(self) -> Alarm | None:
        """The first alarm."""
        ...

    @property
    def nbytes(self) -> int:
        """The memory that its arrays take."""
        ...

    def to_bytes(self) -> bytes:
        """Returns all of it."""
        ...


class Detector(Protocol):
    """A pure fold over an account's rows."""

    def begin(self, saved: bytes | None = None) -> Any:
        """Returns the state of an account of no rows, or one that was saved (ValueError if that is broken)."""
        ...

    def observe(self, state: Any, rows: Array, labels: Labels) -> Any:
        """Takes rows ``(n, ...)`` and the victim's labels ``(n,)``, however they are split into calls."""
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
class Watch:
    """Lets a detector watch each account; stands innermost, so that it sees what the bare victim said.

    A changed detector or victim starts anew, with logs of its own.

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

    detector: Annotated[Detector, SkipValidation]
    kind: str
    model: str
    victim: str
    store: Annotated[Store, SkipValidation] = field(repr=False)
    alarms: Annotated[Alarms, SkipValidation] = field(repr=False)
    reaction: Literal["log", "refuse", "slow", "coarsen", "deceive"] = "log"
    digits: int | None = None
    open: bool = False
    _accounts: OrderedDict[str, Watched] = field(
        default_factory=OrderedDict, init=False, repr=False, compare=False
    )
    _memory: _Memory = field(default_factory=_Memory, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
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
        try:
            await self.account(query.account).take(entry(query.x, answer.labels))
        except Refused as refused:
            if not self.open:
                raise
            log.error("model %s: rows of account %s go unwatched: %s", self.model, query.account, refused)
        return answer

    def account(self, name: str) -> Watched:
        """Returns what is known here of an account."""
        if name not in self._accounts:
            self._accounts[name] = Watched(self, name)
            self._memory.held += self._accounts[name].nbytes
        self._accounts.move_to_end(name)
        return self._accounts[name]

    async def begin(self, card: Card, inside: Sequence[Defense], outside: Sequence[Defense]) -> None:
        """Refuses a place outside what changes answers (:class:`~wire.BadInput`); reads nothing."""
        for layer in inside:
            if not isinstance(layer, Watch):
                raise BadInput(
                    f"{self.kind}: {type(layer).__name__} stands inside it and changes what the victim says; "
                    "detectors come last in a stack"
                )

    def disclose(self, card: Card) -> Card:
        """Leaves the card as it is; rows must be numbers, none of them missing."""
        if card.dtype == "BYTES" or card.missing:
            what = "texts" if card.dtype == "BYTES" else "rows with missing features"
            raise BadInput(f"{self.kind}: the model takes {what}; expected rows of numbers")
        return card

    def resize(self, name: str, account: Watched, nbytes: int) -> None:
        """Notes what an account takes now, and drops what was not used for longest; it can be read again."""
        if self._accounts.get(name) is account:  # else it was dropped
            self._memory.held += nbytes - account.nbytes
        account.nbytes = nbytes
        while self._memory.held > _HELD and len(self._accounts) > 1:
            self._memory.held -= self._accounts.popitem(last=False)[1].nbytes


class Watched:
    """An account, as one worker knows it.

    Attributes:
        log: Name of its log.
        state: The detector's.
        position: Up to where the log is folded.
        nbytes: The memory that the state takes.
        take: Logs and folds an entry; those that come meanwhile share the next trip.
    """

    def __init__(self, layer: Watch, name: str) -> None:
        """Knows nothing yet."""
        self._layer, self._name = layer, name
        settings = hashlib.sha256(f"{layer.detector}\n{layer.victim}".encode()).hexdigest()[:16]
        self.log = f"watch/{layer.model}/{layer.kind}/{settings}/{name}"
        self.state: State = layer.detector.begin()
        self.position, self.nbytes = 0, _BESIDE
        self._fresh = 0  # rows since the snapshot
        self.take = Coalesced[bytes, None](self._take)

    async def catch_up(self) -> None:
        """Folds what the log has gained; only one call may go on at a time.

        Raises:
            Refused: The store is away, or the log cannot be read (503).
        """
        tail = await self._layer.store.read(self.log, self.position)
        await self._fold(tail.entries, tail.start, tail.snapshot)

    async def _take(self, entries: Sequence[bytes]) -> list[None]:
        end = await self._layer.store.append(self.log, entries)
        if end == self.position + len(entries):
            await self._fold(entries, self.position)
        else:
            await self.catch_up()
        if self.state.alarm is not None:
            await self._layer.alarms.raise_alarm(self._name, self._layer.model, self._layer.kind, self._look)
        if self._fresh >= max(_COMPACTED, self.state.rows - self._fresh):
            await self._layer.store.compact(self.log, self.position, await asyncio.to_thread(self.state.to_bytes))
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
            raise Refused("the log of this account cannot be read", status=503) from fault
        self._layer.resize(self._name, self, _BESIDE + self.state.nbytes)

    def _folded(self, entries: Sequence[bytes], start: int, snapshot: bytes | None) -> None:
        detector = self._layer.detector
        if snapshot is not None:
            self.state, self.position, self._fresh = detector.begin(snapshot), start, 0
        for _, run in groupby(map(read_entry, entries), key=lambda read: read and read[0].dtype):
            taken = 0
            parts = []
            for read in run:
                taken += 1
                if read is None:
                    self.state, self._fresh = detector.begin(), 0
                else:
                    parts.append(read)
            if parts:  # many small entries are folded at once
                rows, labels = (np.concatenate(part) for part in zip(*parts, strict=True))
                self.state = detector.observe(self.state, rows, labels)
                self._fresh += len(labels)
            self.position += taken

    async def _look(self) -> dict[str, Any] | None:
        await self.catch_up()
        if self.state.alarm is None:
            return None
        return {
            "row": self.state.alarm.row,
            "statistic": self.state.alarm.statistic,
            "reaction": self._layer.reaction,
            "digits": self._layer.digits,
            "log": self.log,
        }


def entry(x: Array, labels: Labels) -> bytes:
    """Returns rows ``(n, ...)`` and labels ``(n,)`` as a log holds them: a line of JSON, then bytes or float32."""
    rows = x.reshape(len(x), -1)
    if rows.dtype != np.uint8:
        rows = rows.astype("<f4", copy=False)
        same, shifted = pixels(rows)
        if same.all():
            rows = (shifted.view(np.uint8)) ^ 128
    head = {"labels": labels.tolist(), "pixels": rows.dtype == np.uint8}
    return orjson.dumps(head) + b"\n" + np.ascontiguousarray(rows).tobytes()


def read_entry(content: bytes) -> tuple[Array, Labels] | None:
    """Reads what :func:`entry` wrote; None for :data:`CLEARED`.

    Raises:
        ValueError: It is none.
    """
    if content == CLEARED:
        return None
    line, _, octets = content.partition(b"\n")
    try:
        head = orjson.loads(line)
        labels = np.array(head["labels"], np.int64)
        return np.frombuffer(octets, "u1" if head["pixels"] else "<f4").reshape(len(labels), -1), labels
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"this is no entry: {error}") from None
