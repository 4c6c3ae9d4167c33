"""Settles a charge that was reserved before it was known how much would be told."""

from __future__ import annotations

from collections.abc import Callable

from defenses.admission.price import Usage
from defenses.store import Charge, Store

Costs = Callable[[Usage, float], Charge]
"""Returns the charge for tokens at a time, in seconds since the epoch."""


async def settle(store: Store, costs: Costs, reserved: Usage, told: Usage, since: float) -> None:
    """Leaves of a reservation what was told; without anything told, nothing is left.

    Also an unavailable store gives the rest back, once it is available.

    Args:
        store: The store.
        costs: What tokens cost.
        reserved: The tokens that were charged.
        told: Those that were told, no more of either kind.
        since: When they were charged.
    """
    whole, part = costs(reserved, since), costs(told, since)
    if not any(told):
        await store.refund(whole)
        return
    over = [
        counter._replace(amount=counter.amount - less.amount)
        for counter, less in zip(whole.counters, part.counters, strict=True)
    ]
    store.answered(part)
    if any(counter.amount for counter in over):
        await store.refund(whole._replace(counters=over))


async def settle_once(
    store: Store, costs: Costs, reserved: Usage, told: Usage, since: float, at: float, key: str
) -> None:
    """Leaves of a reservation what is about to be told, unless it was told under this key before.

    The key is charged first, beyond the limits that the reservation has passed: a charge for as much, and the
    reservation's refund, change no limit.

    Raises:
        Refused: The store is unavailable (503); nothing is left of the reservation, and nothing may be told.
    """
    part = costs(told, at)
    free = [counter._replace(cap=None) for counter in part.counters]
    try:
        await store.charge(part._replace(counters=free, idempotency_key=key, log_position=None))
    finally:
        await store.refund(costs(reserved, since))
