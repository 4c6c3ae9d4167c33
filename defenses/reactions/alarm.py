"""An alarm that stands."""

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
        at: When it was raised, in seconds since the epoch.
        row: After which of the account's rows.
        statistic: The detector's statistic then.
        reaction: What becomes of the account.
        digits: Decimals that ``coarsen`` leaves; None leaves labels only.
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
