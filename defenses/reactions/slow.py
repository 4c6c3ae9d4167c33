"""A limit for an account that raised an alarm: it waits longer and longer."""

from __future__ import annotations

import math
from dataclasses import dataclass

from defenses.store.counters import Meter, Number
from wire import Card, Refused


@dataclass(frozen=True)
class Slowed:
    """Lets one request pass each time that the time since the alarm has doubled.

    The meter leaks out in half the time since the alarm, but in no less than a second. So what passed ``s``
    seconds after the alarm has leaked out ``2 s`` seconds after it.

    Attributes:
        since: When the alarm was raised, in seconds since the epoch.
    """

    since: float

    name, label = "slow", "slowed"
    policy = "q=1"  # a request; its window grows

    def meter(self, name: str, rows: int, at: float) -> Meter:
        """Returns the meter of the last request, to which a retry pays again."""
        return Meter(name, 1, 1, 1 / self._pause(at), at, True)

    def left(self, level: Number) -> int:
        """Tells how many requests may pass."""
        return int(1 - level)

    def told(self, level: Number, at: float) -> str:
        """Tells how many requests may pass, and the seconds until the next may."""
        return f"r={self.left(level)};t={self._wait(level, at)}"

    def refusal(self, label: str, rows: int, level: Number, at: float) -> Refused:
        """Returns a refusal (429) that says when the next request may pass."""
        wait = self._wait(level, at)
        return Refused(
            f"slow: this account raised an alarm; its next request may pass in {wait} seconds",
            status=429,
            retry_after=wait,
            policy=f'"{label}";{self.policy}',
        )

    def disclose(self, card: Card) -> Card:
        """Leaves the card as it is."""
        return card

    def _wait(self, level: Number, at: float) -> int:
        passed = at - (1 - level) * self._pause(at)
        return math.ceil(max(passed + 1, 2 * passed - self.since) - at)

    def _pause(self, at: float) -> float:
        return max(1.0, (at - self.since) / 2)
