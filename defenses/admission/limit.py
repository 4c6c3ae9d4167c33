"""A rule of admission."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from defenses.store.counters import Meter, Number
from wire import Card, Refused


@runtime_checkable
class Limit(Protocol):
    """A limit of rows: a meter of the account, and what is said when it would pass its cap."""

    @property
    def name(self) -> str:
        """What the limit is called; no two limits of a stack have one name."""
        ...

    @property
    def label(self) -> str:
        """What answers call the limit in ``RateLimit-Policy`` and ``RateLimit``."""
        ...

    @property
    def policy(self) -> str:
        """What ``RateLimit-Policy`` says of it: the quota ``q`` and, if fixed, its window ``w`` in seconds."""
        ...

    def meter(self, name: str, rows: int, at: float) -> Meter:
        """Returns the meter of that name, and how much ``rows`` rows at the time ``at`` (seconds) make it rise."""
        ...

    def left(self, level: Number) -> int:
        """Tells how many rows may pass when the meter stands at ``level``."""
        ...

    def told(self, level: Number, at: float) -> str:
        """Returns what ``RateLimit`` says of it: ``r`` are left, and more come in ``t`` seconds, if ever."""
        ...

    def refusal(self, label: str, rows: int, level: Number, at: float) -> Refused:
        """Returns what is said to who asks about ``rows`` rows when the meter of ``label`` stands at ``level``."""
        ...

    def disclose(self, card: Card) -> Card:
        """Returns the card as it is seen through this rule.

        Raises:
            BadInput: The card allows requests that the rule would always refuse.
        """
        ...
