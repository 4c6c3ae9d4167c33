"""Counters of limits and prices: levels that rise with each request and may not exceed a cap.

A leaky bucket (Turner, "New directions in communications", IEEE Communications Magazine 1986) drains continuously.
A quota empties when its period ends. A ledger never drains and has no cap. All counters of a charge rise together
or not at all.

An open charge is one whose request is not recorded as answered. The trip that makes a charge records it as open
under its worker; the worker's next trip, a second later at most, strikes it if the request was answered meanwhile.
What a killed worker left open was charged and, except for the answers after its last trip, never answered; it can
be refunded. Charges with an idempotency key are not recorded: whoever asks again is answered without a new charge.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

EMPTIES = 1e300  # a refill that empties the counter as soon as its time advances
RECEIPT_SECONDS = 600.0  # lifetime of an idempotency key, on the queries' clock
MOST = 10**15 - 1  # the maximum cap, which is that of an integer in a header (RFC 9651, 3.3.1)
SKEW_SECONDS = 2.0  # by which the stamps of concurrent requests may be out of order
SLACK = 1e-6  # rounding tolerance: a client that waits for ``Retry-After`` must pass

Number = int | float


class Counter(NamedTuple):
    """A level of an account, and its increase by a charge.

    Attributes:
        name: Name of the counter, unique in the account.
        amount: The increase, at least 0.
        cap: Maximum level; None if there is no cap.
        refill: The decrease when ``as_of`` advances by 1.
        as_of: Time of the charge: seconds, or the number of a period.
        retried: Whether a retry with the same idempotency key is charged again.
        latest: The latest ``as_of`` that concurrent requests may have. A stored level of a later time was charged
            by a clock that has been set back since; it goes on from ``as_of``. None if time never goes back.
    """

    name: str
    amount: int
    cap: int | None = None
    refill: float = 0.0
    as_of: float = 0.0
    retried: bool = False
    latest: float | None = None


class Level(NamedTuple):
    """A counter's level at a time."""

    level: Number
    as_of: float

    def at(self, counter: Counter) -> Level:
        """Returns the level at the counter's time; a time that is a little earlier changes nothing."""
        if counter.as_of > self.as_of:
            return Level(refilled(self.level, counter.refill, counter.as_of - self.as_of), counter.as_of)
        if counter.latest is not None and self.as_of > counter.latest:
            return Level(self.level, counter.as_of)
        return self


def refilled(level: Number, refill: float, advance: float) -> Number:
    """Returns a level after its time has advanced."""
    return max(0, level - refill * advance)


class Charge(NamedTuple):
    """The cost of a request.

    Attributes:
        account: The account to charge.
        counters: The counters to increase.
        at: Seconds since the epoch.
        idempotency_key: Identifies the request, so that a retry within :data:`RECEIPT_SECONDS` is not charged
            again.
        log_position: Position up to which the control log was read; None to skip the check.
    """

    account: str
    counters: Sequence[Counter]
    at: float = 0.0
    idempotency_key: str | None = None
    log_position: int | None = None


class Verdict(NamedTuple):
    """The outcome of a charge.

    Attributes:
        kind: ``charged``; ``known``, if its idempotency key was known (only ``retried`` counters rose); ``over``,
            if a counter would have exceeded its cap; ``behind``, if the control log has grown beyond the charge's
            position. In the last two cases no level changed.
        counter: Index of the counter that would have exceeded its cap; -1 if none.
        level: Level of that counter.
        levels: If charged or known, the new levels of the counters with a cap, at their times.
    """

    kind: Literal["charged", "known", "over", "behind"]
    counter: int = -1
    level: Number = 0
    levels: tuple[Number, ...] = ()


CHARGED, BEHIND = Verdict("charged"), Verdict("behind")

Levels = dict[tuple[str, str], tuple[Number, float]]


class Receipt(NamedTuple):
    """A charged request with an idempotency key.

    Attributes:
        at: Time of the charge, in seconds since the epoch.
        attempts: Number of attempts that have not failed.
        counters: The charged counters.
    """

    at: float
    attempts: int
    counters: Sequence[Counter]


Receipts = dict[tuple[str, str], Receipt]


Item = tuple[Charge, bool]  # a charge, and whether to make it (True) or to undo it


def undone(item: Item, verdict: Verdict) -> Item | None:
    """Returns the item that undoes an item; None if there is nothing to undo."""
    charge, forward = item
    return (charge, False) if forward and verdict.kind in ("charged", "known") else None


def charged(charge: Charge, levels: Levels, receipts: Receipts) -> Verdict:
    """Makes a charge, in place.

    Args:
        charge: The charge.
        levels: Levels by account and counter.
        receipts: Receipts by account and idempotency key.
    """
    key = (charge.account, charge.idempotency_key or "")
    receipt = receipts.get(key)
    known = receipt is not None and charge.at - receipt.at < RECEIPT_SECONDS
    risen, capped = [], []
    for i, (name, amount, cap, refill, as_of, retried, latest) in enumerate(charge.counters):
        place = charge.account, name
        level, since = levels.get(place) or (0, as_of)
        if as_of > since:
            level, since = refilled(level, refill, as_of - since), as_of
        elif latest is not None and since > latest:  # kept even if the charge is refused, so that time goes on
            since = as_of
            levels[place] = level, since
        if retried or not known:
            if cap is not None and level + amount > cap + SLACK:
                return Verdict("over", i, level)
            level += amount
            risen.append((place, (level, since)))
        if cap is not None:
            capped.append(level)
    levels.update(risen)
    if receipt is not None and known:
        receipts[key] = Receipt(min(receipt.at, charge.at), receipt.attempts + 1, receipt.counters)
    elif charge.idempotency_key:
        receipts[key] = Receipt(charge.at, 1, charge.counters)
    return Verdict("known" if known else "charged", -1, 0, tuple(capped))


def refunded(charge: Charge, levels: Levels, receipts: Receipts) -> None:
    """Undoes a charge whose request was not answered, in place.

    With an idempotency key, only the last failing attempt undoes the charge: another attempt may have been
    answered.
    """
    counters = charge.counters
    if charge.idempotency_key:
        key = (charge.account, charge.idempotency_key)
        receipt = receipts.get(key)
        if receipt is None:
            return
        if receipt.attempts > 1:
            receipts[key] = receipt._replace(attempts=receipt.attempts - 1)
            return
        counters = receipt.counters
        del receipts[key]
    for counter in counters:
        found = levels.get((charge.account, counter.name))
        if found is not None and not (counter.refill >= EMPTIES and counter.as_of < found[1]):
            level, as_of = found
            levels[charge.account, counter.name] = max(0, level - counter.amount), as_of


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


def add_open(open_: Open, charge: Charge) -> Open:
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
