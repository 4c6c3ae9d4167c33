"""The reaction ``slow``: an account that raised an alarm must wait longer and longer between requests."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from defenses.defense import Stage
from defenses.store.counters import SKEW_SECONDS, Counter, Number
from wire import Card, Refused
from wire.ratelimit import Policy, Remaining


@dataclass(frozen=True)
class Slowed:
    """Admits one request each time the time since the alarm has doubled.

    The counter drains in half the time since the alarm, but in no less than a second. So after a request that
    passes ``s`` seconds after the alarm, the next one passes ``2 s`` seconds after the alarm.

    Attributes:
        since: Time of the alarm, in seconds since the epoch.
    """

    stage: ClassVar[Stage] = Stage.ADMISSION
    name: ClassVar[str] = "slow"
    policy: ClassVar[Policy] = Policy("slowed", 1)  # one request; the window grows

    since: float

    def counter(self, name: str, rows: int, at: float) -> Counter:
        """Returns the counter of the last request; a retry counts as a new request."""
        return Counter(name, 1, 1, 1 / self._pause(at), at, True, at + SKEW_SECONDS)

    def remaining(self, level: Number, at: float) -> Remaining:
        """Returns how many requests would pass now, and the seconds until the next one would."""
        return Remaining(int(1 - level), self._wait(level, at))

    def refusal(self, policy: Policy, rows: int, level: Number, at: float, unit: str = "rows") -> Refused:
        """Returns a refusal (429) until the next request may pass."""
        wait = self._wait(level, at)
        return Refused(
            f"slow: this account raised an alarm; its next request may pass in {wait} seconds",
            status=429,
            retry_after=wait,
            policy=str(policy),
        )

    def disclose(self, card: Card) -> Card:
        """Returns the card unchanged."""
        return card

    def _wait(self, level: Number, at: float) -> int:
        passed = at - (1 - level) * self._pause(at)
        return math.ceil(max(passed + 1, 2 * passed - self.since) - at)

    def _pause(self, at: float) -> float:
        return max(1.0, (at - self.since) / 2)
