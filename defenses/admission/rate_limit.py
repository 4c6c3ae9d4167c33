"""A token bucket, in which a token is a row."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from defenses.defense import Stage
from defenses.store.counters import MOST, SKEW_SECONDS, SLACK, Counter, Number
from wire import BadInput, Card, Refused
from wire.ratelimit import Policy, Remaining


@dataclass(frozen=True)
class RateLimit:
    """Limits the rows per second of an account, and allows bursts.

    Attributes:
        rows_per_second: Rows added to the bucket per second.
        burst: Capacity of the bucket, in rows.
    """

    stage: ClassVar[Stage] = Stage.ADMISSION
    name: ClassVar[str] = "rate_limit"

    rows_per_second: float
    burst: int

    def __post_init__(self) -> None:
        if not 0 < self.rows_per_second < math.inf or not 1 <= self.burst <= MOST:
            raise BadInput(
                f"rate_limit: rows_per_second must be positive and finite, and burst between 1 and {MOST}, "
                f"not {self.rows_per_second} and {self.burst}"
            )
        if self.burst / self.rows_per_second > MOST:
            raise BadInput(
                f"rate_limit: at {self.rows_per_second:g} rows a second, a burst of {self.burst} refills in "
                f"more than {MOST} seconds; increase rows_per_second, or use a quota per total"
            )

    @property
    def policy(self) -> Policy:
        """The burst, and the seconds in which it refills."""
        return Policy("rows", self.burst, math.ceil(self.burst / self.rows_per_second))

    def counter(self, name: str, rows: int, at: float) -> Counter:
        """Returns the counter of tokens taken; a retry takes them again."""
        return Counter(name, rows, self.burst, self.rows_per_second, at, True, at + SKEW_SECONDS)

    def remaining(self, level: Number, at: float) -> Remaining:
        """Returns the rows in the bucket, and the seconds until it has one more."""
        held = self.burst - level
        left = math.floor(held + SLACK)
        return Remaining(max(0, left), math.ceil((left + 1 - held) / self.rows_per_second))

    def refusal(self, policy: Policy, rows: int, level: Number, at: float, unit: str = "rows") -> Refused:
        """Returns a refusal (429) until the bucket has enough rows."""
        left = max(0, math.floor(self.burst - level + SLACK))  # a burst may have been lowered
        return Refused(
            f"rate limit: asked for {rows} {unit} with {left} in the bucket, "
            f"which gains {self.rows_per_second:g} a second",
            status=429,
            retry_after=math.ceil((level + rows - self.burst) / self.rows_per_second),
            left=left,
            policy=str(policy),
        )

    def disclose(self, card: Card) -> Card:
        """Returns the card unchanged, or raises :class:`~wire.BadInput` if a full request exceeds the burst."""
        if self.burst < card.max_rows:
            raise BadInput(
                f"rate_limit: a burst of {self.burst} rows never admits a full request of {card.max_rows} rows; "
                "increase burst, or reduce max_rows"
            )
        return card
