"""The reaction ``refuse``, and the refusal of queries that were in flight when an alarm was raised."""

from __future__ import annotations

from collections.abc import Iterable

from defenses.reactions.alarm import StandingAlarm
from wire import Refused


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
