"""A quota of rows for a period."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from defenses.store.meter import EMPTIES, MOST, Meter, Number
from wire import BadInput, Card, Refused

SECONDS = {"minute": 60, "hour": 3600, "day": 86400}
PERIODS = (*SECONDS, "month", "total")


@dataclass(frozen=True)
class Quota:
    """Lets an account ask about some rows each minute, hour, day or month (of UTC), or once and for all.

    Attributes:
        rows: Most rows.
        per: The period after which the quota starts anew; ``total`` never does.
    """

    rows: int
    per: Literal["minute", "hour", "day", "month", "total"] = "day"

    def __post_init__(self) -> None:
        if not 1 <= self.rows <= MOST or self.per not in PERIODS:
            raise BadInput(
                f"quota: rows must lie between 1 and {MOST} and per be one of {', '.join(PERIODS)}, "
                f"not {self.rows} and {self.per!r}"
            )

    @property
    def name(self) -> str:
        """What it is called: quotas of several periods can stand together."""
        return f"quota/{self.per}"

    def meter(self, name: str, rows: int, at: float) -> Meter:
        """Returns the meter of the rows that were used in the period."""
        return Meter(name, rows, self.rows, 0.0 if self.per == "total" else EMPTIES, self._period(at)[0])

    def left(self, level: Number) -> int:
        """Tells how many rows the period has left."""
        return max(0, int(self.rows - level))  # a quota may have been lowered

    def refusal(self, rows: int, level: Number, at: float) -> Refused:
        """Returns a refusal (429) that says when the period ends, or one for good (403)."""
        final, left = self.per == "total", self.left(level)
        _, start, end = self._period(at)
        return Refused(
            f"quota: asked for {rows} rows with {left} left of {self.rows} "
            + ("in all" if final else f"this {self.per}"),
            status=403 if final else 429,
            retry_after=None if final else math.ceil(end - at),
            left=left,
            policy=None if final else f'"{self.per}";q={self.rows};w={end - start:.0f}',
        )

    def disclose(self, card: Card) -> Card:
        """Leaves the card as it is."""
        return card

    def _period(self, at: float) -> tuple[int, float, float]:
        """Returns the number of the period, and its start and end in seconds."""
        if self.per == "total":
            return 0, 0.0, math.inf
        if self.per == "month":
            date = datetime.fromtimestamp(at, UTC)
            number = date.year * 12 + date.month - 1
            first, next_first = (datetime(m // 12, m % 12 + 1, 1, tzinfo=UTC) for m in (number, number + 1))
            return number, first.timestamp(), next_first.timestamp()
        seconds = SECONDS[self.per]
        number = math.floor(at / seconds)
        return number, number * seconds, (number + 1) * seconds
