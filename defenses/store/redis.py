"""The store for several workers and hosts: Redis, with one script call for all concurrent charges.

It needs a single Redis server, with or without replicas. A cluster would put an account's keys and the control log
on different nodes. Redis must run with ``--appendonly yes --appendfsync always``: with ``everysec`` it answers
before it has written while the disk is slow, so that a kill loses acknowledged charges.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from importlib import resources
from typing import Any, cast

import orjson
import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from defenses.microbatch import MicroBatch, Observe
from defenses.store.counters import (
    CHARGED,
    RECEIPT_SECONDS,
    SLACK,
    Charge,
    Item,
    Level,
    Open,
    OpenCharge,
    Verdict,
    undone,
)
from defenses.store.store import Answered, LogSlice, Outage, VersionConflict
from wire import BadInput, Refused

log = logging.getLogger(__name__)

_PREFIX = "mlaas-range:"
_PAUSES = (0.05, 0.2, None)  # seconds after each attempt at a trip; after the last, its charges are refused
_CONNECT_SECONDS = 10.0  # time-out of a connection, for a busy machine
_SECONDS = 1.0  # time-out of a reply
_CONNECTIONS = 16  # for everything except trips

_SETTLE = """
local last = redis.call('GET', KEYS[1]) or '0 []'
local number, reply = string.match(last, '^(%d+) (.*)$')
if number == ARGV[1] then return reply end
redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. last, 'EX', 86400)
return last
"""
_APPEND = """
local base = tonumber(redis.call('GET', KEYS[1] .. ':base') or '0')
local stop = base + redis.call('LLEN', KEYS[1])
if ARGV[1] ~= '' and tonumber(ARGV[1]) ~= stop then return -1 end
for i = 2, #ARGV do redis.call('RPUSH', KEYS[1], ARGV[i]) end
return stop + #ARGV - 1
"""
_READ = """
local base = tonumber(redis.call('GET', KEYS[1] .. ':base') or '0')
local start = math.min(tonumber(ARGV[1]), base + redis.call('LLEN', KEYS[1]))
local snapshot = false
if base > start then start, snapshot = base, redis.call('GET', KEYS[1] .. ':snapshot') end
local now = redis.call('TIME')
return {now[1], now[2], start, snapshot, redis.call('LRANGE', KEYS[1], start - base, -1)}
"""
_COMPACT = """
local base, upto = tonumber(redis.call('GET', KEYS[1] .. ':base') or '0'), tonumber(ARGV[1])
if upto <= base then return end
redis.call('LTRIM', KEYS[1], upto - base, -1)
redis.call('SET', KEYS[1] .. ':base', upto)
redis.call('SET', KEYS[1] .. ':snapshot', ARGV[2])
"""


class RedisStore:
    """A store in Redis.

    A trip whose reply is lost is sent again under the same number, which Redis remembers, so that nothing is
    charged twice. If Redis stays unreachable, the trip's charges are refused; if they had been made, they are
    refunded once Redis is back.
    """

    def __init__(self, url: str, observe: Observe | None = None) -> None:
        """Makes a store that connects at first use.

        Args:
            url: The URL, in redis-py's form.
            observe: Called after each trip with its duration in seconds and its number of charges.

        Raises:
            BadInput: The URL is invalid.
        """
        try:
            self._redis, self._trips = (
                redis.Redis.from_pool(
                    redis.BlockingConnectionPool.from_url(
                        url,
                        max_connections=most,
                        timeout=_CONNECT_SECONDS,
                        socket_timeout=_SECONDS,
                        socket_connect_timeout=_CONNECT_SECONDS,
                        retry=Retry(NoBackoff(), 0),
                    )
                )
                for most in (_CONNECTIONS, 1)  # trips have their own connection
            )
        except ValueError as error:
            raise BadInput(f"store {url}: {error}") from None
        self._scripts = {text: self._redis.register_script(text) for text in (_SETTLE, _APPEND, _READ, _COMPACT)}
        scripts = resources.files("defenses.store")
        self._open_script = self._redis.register_script(scripts.joinpath("open_charges.lua").read_text())
        self._trip_script = self._trips.register_script(scripts.joinpath("trip.lua").read_text())
        self._worker = f"{_PREFIX}trip:{secrets.token_hex(8)}"
        self._ahead = time.time() - time.monotonic()  # of Redis' clock against this process's own
        self._outage = Outage((redis.RedisError, OSError), lambda error: type(error).__name__)
        self._number = 0
        # Refunds, answered charges and new charges of the trip in progress:
        self._out: tuple[list[Charge], Open, list[Charge]] | None = None
        self._answered = Answered(self._empty_trip)
        self._owed: list[Charge] = []  # outstanding refunds
        self._paying: asyncio.Task[None] | None = None
        self._charges = MicroBatch[Item, Verdict](self._run, undo=undone, observe=observe)

    async def charge(self, charge: Charge) -> Verdict:
        """Charges an account; see :class:`~defenses.store.Store`."""
        try:
            return await self._charges((charge, True))
        finally:
            self._see_to_debts()

    async def charge_all(self, charges: Sequence[Charge]) -> Sequence[Verdict]:
        """Makes several charges; see :class:`~defenses.store.Store`."""
        try:
            return await self._charges.all([(charge, True) for charge in charges])
        finally:
            self._see_to_debts()

    async def refund(self, charge: Charge) -> None:
        """Undoes a charge; see :class:`~defenses.store.Store`."""
        with suppress(Refused):  # made when the store is back
            await self._charges((charge, False))
        self._see_to_debts()

    def answered(self, charge: Charge) -> None:
        """Notes that a charge's request was answered."""
        self._answered.add(charge)

    async def open_charges(self) -> list[OpenCharge]:
        """Returns the open charges of all workers."""
        return await self._opened(0.0, "")

    async def reconcile(self, idle: float) -> list[OpenCharge]:
        """Refunds what workers left open that are gone; see :class:`~defenses.store.Store`."""
        return await self._opened(idle, "refund")

    async def levels(self, account: str) -> dict[str, Level]:
        """Returns the levels of an account's counters."""
        with self._outage.watched(writes=False):
            found = await cast(Awaitable[dict[bytes, bytes]], self._redis.hgetall(f"{_PREFIX}levels:{account}"))
        return {name.decode(): _level(value) for name, value in found.items()}

    async def append(self, log: str, entries: Sequence[bytes], expected: int | None = None) -> int:
        """Appends to a log; see :class:`~defenses.store.Store`."""
        end: int = await self._call(_APPEND, log, "" if expected is None else expected, *entries)
        if end < 0:
            raise VersionConflict(f"the log {log} does not end at {expected}")
        return end

    async def read(self, log: str, start: int = 0) -> LogSlice:
        """Reads a log; see :class:`~defenses.store.Store`."""
        return LogSlice(*self._timed(await self._call(_READ, log, start)))

    async def probe(self) -> None:
        """Writes, or raises :class:`~wire.Refused` (503)."""
        with self._outage.watched(writes=True):
            await self._redis.set(f"{_PREFIX}probe", 1)

    def now(self) -> float:
        """Returns the time of Redis, late by as much as its last reply was."""
        return time.monotonic() + self._ahead

    async def compact(self, log: str, upto: int, snapshot: bytes) -> None:
        """Replaces entries by a snapshot; see :class:`~defenses.store.Store`."""
        await self._call(_COMPACT, log, upto, snapshot)

    async def close(self) -> None:
        """Closes the connections; unsettled charges are not refunded."""
        await self._answered.flush()
        if self._paying is not None:
            self._paying.cancel()
        await self._redis.aclose()
        await self._trips.aclose()

    async def _call(self, script: str, log: str, *arguments: Any) -> Any:
        with self._outage.watched(writes=False):
            return await self._scripts[script](keys=[f"{_PREFIX}log:{log}"], args=arguments)

    async def _opened(self, idle: float, do: str) -> list[OpenCharge]:
        with self._outage.watched(writes=False):
            entries = await self._open_script(keys=[_PREFIX], args=[idle, do])
        found = [[part.decode() for part in entry] for entry in entries]
        return [
            OpenCharge(worker, float(idle), account, name, float(refill), float(as_of), int(amount))
            for worker, idle, account, name, refill, as_of, amount in found
        ]

    async def _empty_trip(self) -> None:
        await self.refund(Charge("", ()))

    def _timed(self, reply: Sequence[Any]) -> Sequence[Any]:
        """Sets the clock by a reply that begins with the time, and returns the rest of it."""
        seconds, microseconds, *rest = reply
        self._ahead = int(seconds) + int(microseconds) / 1e6 - time.monotonic()
        return rest

    async def _run(self, items: Sequence[Item]) -> Sequence[Verdict]:
        charges = [charge for charge, forward in items if forward]
        self._owed += [charge for charge, forward in items if not forward]
        with self._outage.watched(writes=True):
            await self._settle()
            self._number += 1
            answered = self._answered.take()
            self._out = list(self._owed), answered, charges
            sent = [(c, False) for c in self._owed] + [(c, True) for c in charges]
            try:
                verdicts = iter(await self._trip(sent, answered))
            except redis.ResponseError as error:
                if "user_script" in str(error):  # partly done; a retry would do that part twice
                    log.error("a trip to Redis failed half-way; its refunds are lost: %s", error)
                    self._out, self._owed = None, []
                raise
        self._out, self._owed, _ = None, [], [next(verdicts) for _ in self._owed]
        return [next(verdicts) if forward else CHARGED for _, forward in items]

    async def _settle(self) -> None:
        """Finds out whether Redis processed a lost trip, and ensures that it will not do so later.

        The trip's charges were refused, so they must be refunded if it was processed. If it was not, its refunds
        are still outstanding.
        """
        if self._out is None:
            return
        last = await self._scripts[_SETTLE](keys=[self._worker], args=[self._number + 1])
        number, _, reply = last.partition(b" ")
        if int(number) == self._number:
            refunded, _, charges = self._out
            verdicts = orjson.loads(reply)[len(refunded) :]
            self._owed = self._owed[len(refunded) :]
            self._owed += [
                c for c, (kind, *_) in zip(charges, verdicts, strict=True) if kind in ("charged", "known")
            ]
        else:
            self._answered.put_back(self._out[1])
        self._number += 1
        self._out = None

    def _see_to_debts(self) -> None:
        if (self._out or self._owed) and (self._paying is None or self._paying.done()):
            self._paying = asyncio.get_running_loop().create_task(self._pay())

    async def _pay(self) -> None:
        """Makes outstanding refunds once Redis is back, even without requests."""
        while self._out or self._owed:
            await asyncio.sleep(1)
            with suppress(Refused):
                await self._charges((Charge("", ()), False))

    async def _trip(self, items: Sequence[Item], answered: Open) -> list[Verdict]:
        message = orjson.dumps([_flat(charge, forward) for charge, forward in items])
        listed = orjson.dumps([[*share, amount] for share, amount in answered.items()])
        arguments: list[int | float | bytes] = [self._number, message, RECEIPT_SECONDS, SLACK, listed]
        for pause in _PAUSES:
            try:
                (reply,) = self._timed(await self._trip_script(keys=[self._worker, _PREFIX], args=arguments))
                break
            except (redis.ConnectionError, OSError):  # no retry if Redis answers too late
                if pause is None:
                    raise
                await asyncio.sleep(pause)
        return [
            Verdict(kind, counter, level, tuple(map(float, levels)))
            for kind, counter, level, *levels in orjson.loads(reply)
        ]


def _flat(charge: Charge, forward: bool) -> list[Any]:
    counters = [
        [name, amount, -1 if cap is None else cap, refill, as_of, retried, -1 if latest is None else latest]
        for name, amount, cap, refill, as_of, retried, latest in charge.counters
    ]
    log_position = -1 if charge.log_position is None else charge.log_position
    kept = orjson.dumps(counters).decode() if charge.idempotency_key else ""
    return [forward, charge.account, charge.at, charge.idempotency_key or "", log_position, counters, kept]


def _level(value: bytes) -> Level:
    level, _, as_of = value.partition(b" ")
    return Level(float(level), float(as_of)) if as_of else Level(int(level), 0.0)
