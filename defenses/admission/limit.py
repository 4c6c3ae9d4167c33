"""A limit of rows."""

from __future__ import annotations

from typing import ClassVar, Protocol, runtime_checkable

from defenses.defense import Stage
from defenses.store.counters import Counter, Number
from wire import Card, Refused
from wire.ratelimit import Policy, Remaining


@runtime_checkable
class Limit(Protocol):
    """A limit of rows: a counter of each account, and the refusal when it would exceed its cap."""

    stage: ClassVar[Stage]

    @property
    def name(self) -> str:
        """Its name in the store; no two limits of a stack share one."""
        ...

    @property
    def policy(self) -> Policy:
        """Its description in headers."""
        ...

    def counter(self, name: str, rows: int, at: float) -> Counter:
        """Returns the counter ``name``, and how much ``rows`` rows at the time ``at`` (seconds) make it rise."""
        ...

    def remaining(self, level: Number, at: float) -> Remaining:
        """Returns how many rows would pass when the counter stands at ``level``."""
        ...

    def refusal(self, policy: Policy, rows: int, level: Number, at: float) -> Refused:
        """Returns the refusal of ``rows`` rows when the counter stands at ``level``.

        Args:
            policy: Its description in this stack.
            rows: How many rows were asked about.
            level: The counter's level.
            at: Seconds since the epoch.
        """
        ...

    def disclose(self, card: Card) -> Card:
        """Returns the card as it is seen through this limit.

        Raises:
            BadInput: The card allows requests that the limit would always refuse.
        """
        ...
