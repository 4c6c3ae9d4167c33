"""Open charges: those whose requests are not recorded as answered.

The trip that makes a charge records it as open under its worker; the worker's next trip, a second later at most,
strikes it if the request was answered meanwhile. What a killed worker left open was charged and, except for the
answers after its last trip, never answered; it can be refunded. Charges with an idempotency key are not recorded:
whoever asks again is answered without a new charge.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from defenses.store.counters import EMPTIES, Charge

_WRITE_SECONDS = 1.0  # after which answers are recorded if there is no other trip


Share = tuple[str, str, float, float]
"""A counter that does not drain by itself, as charged: its account, name, ``refill`` and ``as_of``."""

Open = dict[Share, int]
"""The open amount of each share."""


class OpenCharge(NamedTuple):
    """The amount that one worker has charged to one counter for requests that are not recorded as answered.

    Attributes:
        worker: The worker.
        idle: Seconds since its last trip.
        account: The account.
        counter: Name of the counter.
        refill: The counter's refill.
        as_of: The counter's time.
        amount: The amount.
    """

    worker: str
    idle: float
    account: str
    counter: str
    refill: float
    as_of: float
    amount: int


def add(open_: Open, charge: Charge) -> Open:
    """Records a charge as open, in place, and returns all that is open; an idempotency key makes it exempt."""
    if not charge.idempotency_key:
        account = charge.account
        for name, amount, _, refill, as_of, _, _ in charge.counters:
            if amount and (not refill or refill >= EMPTIES):
                share = account, name, refill, as_of
                open_[share] = open_.get(share, 0) + amount
    return open_


def covers(open_: Open, struck: Open) -> bool:
    """Returns whether amounts are still open, else they were refunded already."""
    return all(open_.get(share, 0) >= amount for share, amount in struck.items())


def strike(open_: Open, struck: Open) -> None:
    """Takes amounts from what is open, in place."""
    for share, amount in struck.items():
        left = open_.get(share, 0) - amount
        if left > 0:
            open_[share] = left
        else:
            open_.pop(share, None)


class Answered:
    """What was charged for requests that were answered since the last trip."""

    def __init__(self, write: Callable[[], Awaitable[None]]) -> None:
        """Takes a function that makes a trip."""
        self._write = write
        self._amounts: Open = {}
        self._loop: asyncio.AbstractEventLoop | None = None  # where a timer runs
        self._writing: asyncio.Future[None] | None = None  # held, since a loop forgets tasks

    def add(self, charge: Charge) -> None:
        """Adds a charge, which the next trip takes."""
        if not self._amounts:  # the first since a trip
            loop = asyncio.get_running_loop()
            if self._loop is not loop:
                self._loop = loop
                loop.call_later(_WRITE_SECONDS, self._due)
        add(self._amounts, charge)

    def take(self) -> Open:
        """Returns the amounts, which are now the caller's."""
        taken, self._amounts = self._amounts, {}
        return taken

    def put_back(self, amounts: Open) -> None:
        """Returns amounts after a trip that failed."""
        for share, amount in amounts.items():
            self._amounts[share] = self._amounts.get(share, 0) + amount

    async def flush(self) -> None:
        """Makes a trip if there is anything to write."""
        if self._amounts:
            await self._write()

    def _due(self) -> None:
        self._loop = None
        self._writing = asyncio.ensure_future(self.flush())
