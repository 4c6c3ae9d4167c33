"""Alarms that detectors raised and administrators cleared: a view of the control log."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from defenses.monitoring.records import cleared
from defenses.reactions.alarm import StandingAlarm
from wire import Refused

if TYPE_CHECKING:
    from server.control.log import ControlLog, Event


class Alarms:
    """The alarms that stand."""

    def __init__(self, log: ControlLog) -> None:
        """Knows no alarm yet."""
        self._log = log
        self.reset({})

    def reset(self, saved: dict[str, Any]) -> None:
        """Takes its part of a snapshot."""
        self._standing: dict[tuple[str, str], tuple[StandingAlarm, ...]] = {
            (account, model): tuple(map(StandingAlarm.of, raised.values()))
            for account, models in saved.get("alarms", {}).items()
            for model, raised in models.items()
        }

    def save(self) -> dict[str, Any]:
        """Returns its part of a snapshot."""
        alarms: dict[str, dict[str, dict[str, Any]]] = {}
        for (account, model), standing in self._standing.items():
            alarms.setdefault(account, {})[model] = {alarm.detector: alarm._asdict() for alarm in standing}
        return {"alarms": alarms}

    def fold(self, event: Event) -> bool:
        """Applies an event."""
        if event["do"] not in ("raise alarm", "clear alarm"):
            return False
        place = event["account"], event["model"]
        others = tuple(alarm for alarm in self.standing(*place) if alarm.detector != event["detector"])
        if event["do"] == "raise alarm":
            self._standing[place] = (*others, StandingAlarm.of(event))
        elif others:
            self._standing[place] = others
        else:
            self._standing.pop(place, None)
        return True

    def standing(self, account: str, model: str) -> tuple[StandingAlarm, ...]:
        """Returns the alarms of an account at a model."""
        return self._standing.get((account, model), ())

    def all(self) -> list[StandingAlarm]:
        """Lists all alarms, oldest first."""
        alarms = (alarm for standing in self._standing.values() for alarm in standing)
        return sorted(alarms, key=lambda alarm: alarm.at)

    async def raise_alarm(
        self, account: str, model: str, detector: str, look: Callable[[], Awaitable[dict[str, Any] | None]]
    ) -> None:
        """Raises an alarm unless it stands.

        Clearing an alarm restarts the detector before the control log says so. An alarm that is still found after
        the control log was read is therefore new.

        Args:
            account: The account.
            model: Name of the model.
            detector: Name of the detector.
            look: Reads the account's log on, and returns the alarm's details; None if it no longer holds.
        """

        async def event() -> Event | None:
            if self._find(account, model, detector) or (found := await look()) is None:
                return None
            return {"do": "raise alarm", "account": account, "model": model, "detector": detector, **found}

        if self._find(account, model, detector) is None:
            await self._log.write(event, detector)

    async def clear(self, account: str, model: str, detector: str, by: str) -> StandingAlarm:
        """Clears an alarm, and restarts the detector for the account.

        Returns:
            The alarm.

        Raises:
            Refused: There is no such alarm (404).
        """
        await self._log.catch_up()
        alarm = self._find(account, model, detector)
        if alarm is None:
            raise Refused(f"no alarm of {detector} stands for account {account!r} at model {model!r}", status=404)
        await self._log.store.append(alarm.log, [cleared(account)])

        async def event() -> Event:
            return {"do": "clear alarm", "account": account, "model": model, "detector": detector}

        await self._log.write(event, by)
        return alarm

    def _find(self, account: str, model: str, detector: str) -> StandingAlarm | None:
        return next((alarm for alarm in self.standing(account, model) if alarm.detector == detector), None)
