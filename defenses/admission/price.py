"""The ledger: what an account has asked for and what it owes, exact to the row and the micro-cent."""

from __future__ import annotations

from dataclasses import dataclass

from defenses.admission.rule import State
from wire import Card


@dataclass(frozen=True)
class Price:
    """Counts rows, requests and money; money is in micro-cents (10^-8 of the currency's unit), as integers.

    Attributes:
        per_row: Micro-cents per row.
        per_request: Micro-cents per request.
    """

    per_row: int = 0
    per_request: int = 0

    name = "ledger"

    def take(self, state: State, rows: int, at: float) -> None:
        """Writes a request of ``rows`` rows into the ledger."""
        self._add(state, rows, 1)

    def give_back(self, state: State, rows: int, at: float) -> None:
        """Strikes a request that was not answered."""
        self._add(state, -rows, -1)

    def left(self, state: State, at: float) -> int | None:
        """Sets no limit."""
        return None

    def disclose(self, card: Card) -> Card:
        """Leaves the card as it is."""
        return card

    def _add(self, state: State, rows: int, requests: int) -> None:
        money = self.per_row * rows + self.per_request * requests
        for entry, amount in (("rows", rows), ("requests", requests), ("micro_cents", money)):
            state[entry] = state.get(entry, 0) + amount
