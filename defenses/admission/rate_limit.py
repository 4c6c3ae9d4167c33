"""A token bucket whose tokens are rows."""

from __future__ import annotations

import math
from dataclasses import dataclass

from defenses.store.counters import MOST, SLACK, Meter, Number
from wire import BadInput, Card, Refused


@dataclass(frozen=True)
class RateLimit:
    """Lets an account ask about some rows a second, and about a burst of rows at once.

    Attributes:
        rows_per_second: Rows that come back to the bucket each second.
        burst: Rows that the bucket holds.
    """

    rows_per_second: float
    burst: int

    name, label = "rate_limit", "rows"

    def __post_init__(self) -> None:
        if not 0 < self.rows_per_second < math.inf or not 1 <= self.burst <= MOST:
            raise BadInput(
                f"rate_limit: rows_per_second must be positive and finite and burst lie between 1 and {MOST}, "
                f"not {self.rows_per_second} and {self.burst}"
            )
        if self.burst / self.rows_per_second > MOST:
            raise BadInput(
                f"rate_limit: at {self.rows_per_second:g} rows a second a burst of {self.burst} comes back in "
                f"more than {MOST} seconds; expected more rows_per_second, or a quota per total"
            )

    @property
    def policy(self) -> str:
        """The burst, and the seconds in which it comes back."""
        return f"q={self.burst};w={math.ceil(self.burst / self.rows_per_second)}"

    def meter(self, name: str, rows: int, at: float) -> Meter:
        """Returns the meter of the tokens that are out, to which a retry pays again."""
        return Meter(name, rows, self.burst, self.rows_per_second, at, True)

    def left(self, level: Number) -> int:
        """Tells how many rows the bucket holds."""
        return max(0, math.floor(self.burst - level + SLACK))  # a burst may have been lowered

    def told(self, level: Number, at: float) -> str:
        """Tells how many rows the bucket holds, and the seconds until it holds one more."""
        held = self.burst - level
        left = math.floor(held + SLACK)
        return f"r={left};t={math.ceil((left + 1 - held) / self.rows_per_second)}"

    def refusal(self, label: str, rows: int, level: Number, at: float) -> Refused:
        """Returns a refusal (429) that says when the bucket will hold enough."""
        return Refused(
            f"rate limit: asked for {rows} rows with {self.left(level)} in the bucket, "
            f"which gains {self.rows_per_second:g} a second",
            status=429,
            retry_after=math.ceil((level + rows - self.burst) / self.rows_per_second),
            left=self.left(level),
            policy=f'"{label}";{self.policy}',
        )

    def disclose(self, card: Card) -> Card:
        """Leaves the card as it is, or raises :class:`~wire.BadInput` if the burst is too small for it."""
        if self.burst < card.max_rows:
            raise BadInput(
                f"rate_limit: a burst of {self.burst} rows never lets the {card.max_rows} rows pass that "
                "one request may have; expected a greater burst, or fewer max_rows"
            )
        return card
