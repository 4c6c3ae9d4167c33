"""Meters: every limit and every price is a level that rises by what is asked and may not pass a cap.

A leaky bucket (Turner, "New directions in communications", IEEE Communications Magazine 1986) leaks all the time,
a quota leaks out at once when its period ends, a ledger never leaks and has no cap. All meters of a charge rise
together or not at all.
"""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from typing import Literal, NamedTuple

EMPTIES = 1e300  # a leak that empties the meter as soon as its mark advances
RECEIPT_SECONDS = 600.0  # how long an idempotency key is kept, on the queries' clock
MOST = 10**15 - 1  # the highest cap: a header's integers (RFC 9651, 3.3.1) go no further, a float's not much
SLACK = 1e-6  # what rounding may lose of a level that was waited for as told

Number = int | float


class Meter(NamedTuple):
    """A level, and by how much it is to rise.

    Attributes:
        name: Its name among the account's.
        amount: By how much it rises, at least 0.
        cap: What it may not pass; None if nothing.
        leak: By how much it falls when its mark advances by 1.
        mark: What has advanced: seconds, or the number of a period.
        retried: Whether a retry under an idempotency key pays again.
    """

    name: str
    amount: int
    cap: int | None = None
    leak: float = 0.0
    mark: float = 0.0
    retried: bool = False


class Level(NamedTuple):
    """How high a meter stands, and its mark when that was so."""

    level: Number
    mark: float

    def at(self, meter: Meter) -> Level:
        """Returns the level at the meter's mark; a mark that went back changes nothing."""
        if meter.mark <= self.mark:
            return self
        return Level(leaked(self.level, meter.leak, meter.mark - self.mark), meter.mark)


def leaked(level: Number, leak: float, advance: float) -> Number:
    """Returns a level whose mark has advanced."""
    return max(0, level - leak * advance)


class Charge(NamedTuple):
    """What a request costs.

    Attributes:
        account: Who pays.
        meters: What rises.
        at: Seconds since the epoch.
        idempotency_key: Names the request, so that a retry within :data:`RECEIPT_SECONDS` is not charged again.
        seen: Position up to which the control log was read; None if it does not matter.
    """

    account: str
    meters: Sequence[Meter]
    at: float = 0.0
    idempotency_key: str | None = None
    seen: int | None = None


class Verdict(NamedTuple):
    """What became of a charge.

    Attributes:
        kind: ``charged``; ``known``, if the receipt was (only meters that are ``retried`` rose); ``over``, if a
            meter would have passed its cap; ``behind``, if the control log does not end where it was read to. In
            the last two cases nothing changed.
        meter: Index of the meter that would have passed its cap; -1 if none.
        level: Level of that meter.
        levels: If it was charged or known, the levels thereafter of the meters with a cap, at their marks.
    """

    kind: Literal["charged", "known", "over", "behind"]
    meter: int = -1
    level: Number = 0
    levels: tuple[Number, ...] = ()


CHARGED, BEHIND = Verdict("charged"), Verdict("behind")

Levels = MutableMapping[tuple[str, str], tuple[Number, float]]


class Receipt(NamedTuple):
    """What is known of a request that named itself.

    Attributes:
        at: When it was charged.
        attempts: How many attempts under it have not failed.
        meters: What was charged.
    """

    at: float
    attempts: int
    meters: Sequence[Meter]


Receipts = MutableMapping[tuple[str, str], Receipt]


Item = tuple[Charge, bool]  # a charge, and whether it is made or undone


def undone(item: Item, verdict: Verdict) -> Item | None:
    """Returns what undoes an item; None if there is nothing to undo."""
    charge, forward = item
    return (charge, False) if forward and verdict.kind in ("charged", "known") else None


def charged(charge: Charge, levels: Levels, receipts: Receipts) -> Verdict:
    """Charges, in place.

    Args:
        charge: The charge.
        levels: Levels by account and meter.
        receipts: Receipts by account and name.
    """
    key = (charge.account, charge.idempotency_key or "")
    receipt = receipts.get(key)
    known = receipt is not None and charge.at - receipt.at < RECEIPT_SECONDS
    risen, told = [], []
    for i, (name, amount, cap, leak, mark, retried) in enumerate(charge.meters):
        place = charge.account, name
        level, since = levels.get(place) or (0, mark)
        if mark > since:
            level, since = leaked(level, leak, mark - since), mark
        if retried or not known:
            if cap is not None and level + amount > cap + SLACK:
                return Verdict("over", i, level)
            level += amount
            risen.append((place, (level, since)))
        if cap is not None:
            told.append(level)
    levels.update(risen)
    if receipt is not None and known:
        receipts[key] = receipt._replace(attempts=receipt.attempts + 1)
    elif charge.idempotency_key:
        receipts[key] = Receipt(charge.at, 1, charge.meters)
    return Verdict("known" if known else "charged", -1, 0, tuple(told))


def refunded(charge: Charge, levels: Levels, receipts: Receipts) -> None:
    """Undoes a charge whose request was not answered, in place.

    Under an idempotency key only the last failed attempt strikes the charge: another may have been answered.
    """
    meters = charge.meters
    if charge.idempotency_key:
        key = (charge.account, charge.idempotency_key)
        receipt = receipts.get(key)
        if receipt is None:
            return
        if receipt.attempts > 1:
            receipts[key] = receipt._replace(attempts=receipt.attempts - 1)
            return
        meters = receipt.meters
        del receipts[key]
    for meter in meters:
        found = levels.get((charge.account, meter.name))
        if found is not None and not (meter.leak >= EMPTIES and meter.mark < found[1]):
            level, mark = Level(*found).at(meter)
            levels[charge.account, meter.name] = max(0, level - meter.amount), mark
