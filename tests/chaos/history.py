"""What clients and administrators saw of a server under faults, and what its store holds afterwards.

All times are seconds of one monotonic clock, that of the process which runs the clients.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from defenses.monitoring.records import Entry
from defenses.watermarks.ledger import Mark
from wire import Array

NEVER = math.inf  # the time of an answer that did not come


@dataclass(eq=False)
class Request:
    """A request about rows; one with an id may have been sent several times, and is still one request.

    Attributes:
        account: The account.
        model: The model.
        rows: The rows, ``(n, ...)`` bytes.
        id: Its id, if any.
        key: The key that it was sent with.
        sent: When it was first sent.
        answered: When the answer came that ended it; :data:`NEVER` if none did.
        status: The status of that answer; 0 if none came.
        unsure: Whether an attempt was left without an answer, or was answered with a 5xx.
        labels: The labels that it was told, ``(n,)``.
        shown: Number of probabilities that each row was told.
        left: Rows that the quota leaves, as the answer's headers say.
    """

    account: str
    model: str
    rows: Array
    id: str | None
    key: str
    sent: float
    answered: float = NEVER
    status: int = 0
    unsure: bool = False
    labels: list[int] = field(default_factory=list)
    shown: int | None = None
    left: int | None = None

    @property
    def acknowledged(self) -> bool:
        """Whether it was answered."""
        return self.status == 200

    @property
    def possible(self) -> bool:
        """Whether it may have been billed."""
        return self.acknowledged or self.unsure


@dataclass(frozen=True)
class Reading:
    """An account's ledger at a model at some time between two."""

    account: str
    model: str
    sent: float
    answered: float
    rows: int
    requests: int
    micro_cents: int


@dataclass(frozen=True)
class Act:
    """An administrator's act that changes something.

    Attributes:
        do: ``rotate``, ``add key``, ``replace`` or ``clear``.
        of: The account, or the model of ``replace``.
        sent: When it was sent.
        answered: When it was acknowledged; :data:`NEVER` if it was not, and may have happened or not.
        what: The new key, or how many probabilities the new stack shows.
    """

    do: str
    of: str
    sent: float
    answered: float = NEVER
    what: str | int | None = None

    @property
    def acknowledged(self) -> bool:
        """Whether it was acknowledged."""
        return self.answered < NEVER


@dataclass
class History:
    """All that was seen."""

    requests: list[Request] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)
    acts: list[Act] = field(default_factory=list)
    streamed: set[tuple[str, int]] = field(default_factory=set)  # account and row of each alarm in the stream


@dataclass
class Outcome:
    """What the store holds after the server has recovered.

    Attributes:
        ledgers: Rows, requests and micro-cents by account and model.
        entries: The monitor's log of each account.
        events: The events of the control log about these accounts, in order.
        standing: Account and row of each alarm that stands, as the server lists them.
        marks: The marks of each account.
    """

    ledgers: dict[tuple[str, str], tuple[int, int, int]] = field(default_factory=dict)
    entries: dict[str, Sequence[Entry]] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    standing: set[tuple[str, int]] = field(default_factory=set)
    marks: dict[str, Sequence[Mark]] = field(default_factory=dict)
