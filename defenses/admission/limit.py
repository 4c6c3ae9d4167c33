"""The protocol of a limit on rows."""

from __future__ import annotations

from typing import ClassVar, Protocol, runtime_checkable

from defenses.defense import Stage
from defenses.store.counters import Counter, Number
from wire import Card, Refused
from wire.ratelimit import Policy, Remaining


@runtime_checkable
class Limit(Protocol):
    """A limit on an account's rows: a counter, and the refusal of queries that would exceed its cap."""

    stage: ClassVar[Stage]

    @property
    def name(self) -> str:
        """Name of the counter in the store, unique in a stack."""
        ...

    @property
    def policy(self) -> Policy:
        """The limit's description in headers."""
        ...

    def counter(self, name: str, rows: int, at: float) -> Counter:
        """Returns the counter ``name`` with the increase for ``rows`` rows at the time ``at`` (seconds)."""
        ...

    def remaining(self, level: Number, at: float) -> Remaining:
        """Returns how many rows would pass with the counter at ``level``."""
        ...

    def refusal(self, policy: Policy, rows: int, level: Number, at: float, unit: str = "rows") -> Refused:
        """Returns the refusal of ``rows`` rows with the counter at ``level``.

        Args:
            policy: The limit's description in this stack.
            rows: Number of rows in the query.
            level: The counter's level.
            at: Seconds since the epoch.
            unit: What is counted: rows, or tokens.
        """
        ...

    def disclose(self, card: Card) -> Card:
        """Returns the card as seen through this limit.

        Raises:
            BadInput: The card allows requests that the limit always refuses.
        """
        ...
