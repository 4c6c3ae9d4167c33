"""An alarm that has not been cleared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

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
