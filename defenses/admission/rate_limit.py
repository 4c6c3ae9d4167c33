"""A token bucket whose tokens are rows."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from defenses.admission.rule import State
from wire import BadInput, Card, Refused

_SLACK = 1e-6  # rows: what rounding may lose of a bucket that was waited for as told


@dataclass(frozen=True)
class RateLimit:
    """Lets an account ask about some rows a second, and about a burst of rows at once.

    Attributes:
        rows_per_second: Rows that come back to the bucket each second.
        burst: Rows that the bucket holds.
    """

    rows_per_second: float
    burst: int

    name = "rate_limit"

    def __post_init__(self) -> None:
        if not 0 < self.rows_per_second < math.inf or self.burst < 1:
            raise BadInput(
                "rate_limit: rows_per_second must be positive and finite and burst at least 1, "
                f"not {self.rows_per_second} and {self.burst}"
            )

    def take(self, state: State, rows: int, at: float) -> None:
        """Takes ``rows`` tokens out of the bucket, or raises :class:`~wire.Refused` (429)."""
        tokens = self._tokens(state, at)
        whole = math.floor(tokens + _SLACK)
        if rows > whole:
            raise Refused(
                f"rate limit: asked for {rows} rows with {whole} in the bucket, "
                f"which gains {self.rows_per_second:g} a second",
                status=429,
                retry_after=math.ceil((rows - tokens) / self.rows_per_second),
                left=whole,
                policy=f'"rows";q={self.burst};w={math.ceil(self.burst / self.rows_per_second)}',
            )
        state["tokens"], state["at"] = max(0.0, tokens - rows), max(at, state.get("at", at))

    def give_back(self, state: State, rows: int, at: float) -> None:
        """Puts the tokens of a request that was not answered back."""
        state["tokens"] = min(self.burst, state.get("tokens", self.burst) + rows)

    def left(self, state: State, at: float) -> int | None:
        """Tells how many rows the bucket holds."""
        return math.floor(self._tokens(state, at) + _SLACK)

    def disclose(self, card: Card) -> Card:
        """Bounds the rows of one request by the burst."""
        return replace(card, max_rows=min(card.max_rows, self.burst))

    def _tokens(self, state: State, at: float) -> float:
        elapsed = max(0.0, at - state.get("at", at))  # queries may be stamped out of order
        return float(min(self.burst, state.get("tokens", self.burst) + elapsed * self.rows_per_second))
