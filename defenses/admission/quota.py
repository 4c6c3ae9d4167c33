"""A quota of rows for a period."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from defenses.store.counters import EMPTIES, MOST, Meter, Number
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

    @property
    def label(self) -> str:
        """The period."""
        return self.per

    @property
    def policy(self) -> str:
        """The rows, and the seconds of a period; months differ, and ``total`` never ends."""
        return f"q={self.rows}" + (f";w={SECONDS[self.per]}" if self.per in SECONDS else "")

    def meter(self, name: str, rows: int, at: float) -> Meter:
        """Returns the meter of the rows that were used in the period."""
        return Meter(name, rows, self.rows, 0.0 if self.per == "total" else EMPTIES, self._period(at))

    def left(self, level: Number) -> int:
        """Tells how many rows the period has left."""
        return max(0, int(self.rows - level))  # a quota may have been lowered

    def told(self, level: Number, at: float) -> str:
        """Tells how many rows the period has left, and the seconds until it ends."""
        wait = self._wait(at)
        return f"r={self.left(level)}" if wait is None else f"r={self.left(level)};t={wait}"

    def refusal(self, label: str, rows: int, level: Number, at: float) -> Refused:
        """Returns a refusal (429) that says when the period ends, or one for good (403)."""
        wait, left = self._wait(at), self.left(level)
        return Refused(
            f"quota: asked for {rows} rows with {left} left of {self.rows} "
            + ("in all" if wait is None else f"this {self.per}"),
            status=403 if wait is None else 429,
            retry_after=wait,
            left=left,
            policy=f'"{label}";{self.policy}',
        )

    def disclose(self, card: Card) -> Card:
        """Leaves the card as it is."""
        return card

    def _period(self, at: float) -> int:
        """Returns the number of the period."""
        if seconds := SECONDS.get(self.per):
            return math.floor(at / seconds)
        if self.per == "total":
            return 0
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
