"""An alarm that has not been cleared, its place in a query, and the refusals that it causes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

from wire import Answer, Refused

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


def refused(model: str) -> Refused:
    """Returns the refusal (403) of an account that raised an alarm at a model."""
    return Refused(f"this account raised an alarm, and model {model} no longer answers it", status=403)


def expect_answerable(alarms: Iterable[StandingAlarm]) -> None:
    """Checks that alarms that were raised while a query was in flight let its answer leave.

    Raises:
        Refused: An alarm refuses the account (403), or slows it down: the query may pass a second later (429).
    """
    for alarm in alarms:
        if alarm.reaction == "refuse":
            raise refused(alarm.model)
        if alarm.reaction == "slow":
            late = "slow: this account raised an alarm while the query was answered; ask again in a second"
            raise Refused(late, status=429, retry_after=1)
