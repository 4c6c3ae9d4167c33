"""An alarm that has not been cleared, and its place in a query."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from wire import Answer

ReactionName = Literal["log", "refuse", "slow", "coarsen", "deceive"]


class StandingAlarm(NamedTuple):
    """An alarm that was raised and not cleared.

    Attributes:
        account: The account that raised it.
        model: Name of the model.
        detector: Name of the detector.
        at: Time of the alarm, in seconds since the epoch.
        row: Number of the account's row that raised it.
        statistic: The detector's statistic at that row.
        reaction: The reaction to the alarm.
        digits: Number of decimals for ``coarsen``; None for labels only.
        log: Name of the monitor's log.
    """

    account: str
    model: str
    detector: str
    at: float
    row: int
    statistic: float
    reaction: ReactionName = "log"
    digits: int | None = None
    log: str = ""

    @classmethod
    def of(cls, event: Mapping[str, Any]) -> StandingAlarm:
        """Reads an event of the control log."""
        return cls(**{name: event[name] for name in cls._fields if name in event})


class Alarmed(Exception):
    """Leaves a monitor with the answer to a query that an alarm concerns, since the layers outside depend on it.

    Attributes:
        answer: The victim's own answer.
        places: Where in the query each alarm begins: the index of its first row that the reaction applies to.
    """

    def __init__(self, answer: Answer, places: Mapping[StandingAlarm, int]) -> None:
        super().__init__(f"alarms of {', '.join(alarm.detector for alarm in places)}")
        self.answer, self.places = answer, places
