"""A quota of rows per period."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import ClassVar, Literal

from defenses.defense import Stage
from defenses.store.counters import EMPTIES, MOST, SKEW_SECONDS, Counter, Number
from wire import BadInput, Card, Refused
from wire.ratelimit import Policy, Remaining

SECONDS = {"minute": 60, "hour": 3600, "day": 86400}
PERIODS = (*SECONDS, "month", "total")


@dataclass(frozen=True)
class Quota:
    """Limits the rows of an account per minute, hour, day or month (UTC), or in total.

    Attributes:
        rows: Maximum number of rows.
        per: The period after which the quota starts anew; ``total`` for never.
    """

    stage: ClassVar[Stage] = Stage.ADMISSION

    rows: int
    per: Literal["minute", "hour", "day", "month", "total"] = "day"

    def __post_init__(self) -> None:
        if not 1 <= self.rows <= MOST or self.per not in PERIODS:
            raise BadInput(
                f"quota: rows must lie between 1 and {MOST}, and per must be one of {', '.join(PERIODS)}, "
                f"not {self.rows} and {self.per!r}"
            )

    @property
    def name(self) -> str:
        """Name of the counter in the store; a stack may have quotas for several periods."""
        return f"quota/{self.per}"

    @property
    def policy(self) -> Policy:
        """The rows and the seconds of a period; None seconds for months, which vary, and for ``total``."""
        return Policy(self.per, self.rows, SECONDS.get(self.per))

    def counter(self, name: str, rows: int, at: float) -> Counter:
        """Returns the counter of rows used in the period."""
        if self.per == "total":
            return Counter(name, rows, self.rows)
        latest = self._period(at + SKEW_SECONDS)
        return Counter(name, rows, self.rows, EMPTIES, self._period(at), latest=latest)

    def remaining(self, level: Number, at: float) -> Remaining:
        """Returns the rows left in the period, and the seconds until it ends."""
        return Remaining(self._left(level), self._wait(at))

    def refusal(self, policy: Policy, rows: int, level: Number, at: float, unit: str = "rows") -> Refused:
        """Returns a refusal until the end of the period (429), or a final one (403)."""
        wait, left = self._wait(at), self._left(level)
        return Refused(
            f"quota: asked for {rows} {unit} with {left} left of {self.rows} "
            + ("in all" if wait is None else f"this {self.per}"),
            status=403 if wait is None else 429,
            retry_after=wait,
            left=left,
            policy=str(policy),
        )

    def disclose(self, card: Card) -> Card:
        """Returns the card unchanged."""
        return card

    def _left(self, level: Number) -> int:
        return max(0, int(self.rows - level))  # a quota may have been lowered

    def _period(self, at: float) -> int:
        """Returns the number of the period."""
        if seconds := SECONDS.get(self.per):
            return math.floor(at / seconds)
        date = datetime.fromtimestamp(at, UTC)
        return date.year * 12 + date.month - 1

    def _wait(self, at: float) -> int | None:
        """Returns the seconds until the period ends; None if it never does."""
        if seconds := SECONDS.get(self.per):
            return math.ceil(seconds - at % seconds)
        if self.per == "total":
            return None
        following = self._period(at) + 1
        return math.ceil(datetime(following // 12, following % 12 + 1, 1, tzinfo=UTC).timestamp() - at)
