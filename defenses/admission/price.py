"""An account's ledger: its rows and requests, and the amount that it owes in micro-cents."""

from __future__ import annotations

from dataclasses import dataclass

ENTRIES = ("rows", "requests", "micro_cents")


@dataclass(frozen=True)
class Price:
    """Counts rows, requests and money; money is in micro-cents (10^-8 of the currency's unit), as integers.

    Attributes:
        per_row: Micro-cents per row.
        per_request: Micro-cents per request.
    """

    per_row: int = 0
    per_request: int = 0

    def amounts(self, rows: int) -> tuple[int, int, int]:
        """Returns how much a request of ``rows`` rows adds to each of :data:`ENTRIES`."""
        return rows, 1, self.per_row * rows + self.per_request
