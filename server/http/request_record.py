"""The facts about a request that metrics and logs need."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class RequestRecord:
    """A request, as far as it is known; complete when it has been answered.

    Attributes:
        id: Its id.
        route: The template of its route.
        status: The status of its answer; 0 until the answer begins.
        account: Name of the account whose key it carries.
        model: The model that it asks.
        rows: How many rows were answered.
        reason: Why it was refused.
    """

    id: str
    route: str = "unknown"
    status: int = 0
    account: str | None = None
    model: str | None = None
    rows: int | None = None
    reason: str | None = None
