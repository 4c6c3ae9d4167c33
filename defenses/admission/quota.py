"""A quota of rows for a period."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from defenses.admission.rule import State
from wire import BadInput, Card, Refused

SECONDS = {"minute": 60.0, "hour": 3600.0, "day": 86400.0, "total": math.inf}


@dataclass(frozen=True)
class Quota:
    """Lets an account ask about some rows each minute, hour or day (of UTC), or once and for all.

    Attributes:
        rows: Most rows.
        per: The period after which the quota starts anew; ``total`` never does.
    """

    rows: int
    per: Literal["minute", "hour", "day", "total"] = "day"

    def __post_init__(self) -> None:
        if self.rows < 1 or self.per not in SECONDS:
            raise BadInput(
                f"quota: rows must be at least 1 and per one of {', '.join(SECONDS)}, "
                f"not {self.rows} and {self.per!r}"
            )

    @property
    def name(self) -> str:
        """Where the quota keeps its state: quotas of several periods can stand together."""
        return f"quota/{self.per}"

    def take(self, state: State, rows: int, at: float) -> None:
        """Takes ``rows`` rows out of the quota, or raises :class:`~wire.Refused` (429, or 403 for good)."""
        left = self.left(state, at)
        period = max(self._period(at), state.get("period", 0))
        if rows > left:
            final = self.per == "total"
            wait = None if final else math.ceil((period + 1) * SECONDS[self.per] - at)
            raise Refused(
                f"quota: asked for {rows} rows with {left} left of {self.rows} "
                + ("in all" if final else f"this {self.per}"),
                status=403 if final else 429,
                retry_after=wait,
                left=left,
                policy=None if final else f'"{self.per}";q={self.rows};w={SECONDS[self.per]:.0f}',
            )
        state["period"], state["used"] = period, self.rows - left + rows

    def give_back(self, state: State, rows: int, at: float) -> None:
        """Puts the rows of a request that was not answered back, if its period still runs."""
        if state.get("period") == self._period(at):
            state["used"] -= rows

    def left(self, state: State, at: float) -> int:
        """Tells how many rows the period has left."""
        return self.rows - (state["used"] if state.get("period", -1) >= self._period(at) else 0)

    def disclose(self, card: Card) -> Card:
        """Leaves the card as it is."""
        return card

    def _period(self, at: float) -> int:
        return math.floor(at / SECONDS[self.per])
