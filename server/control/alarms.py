"""Alarms that detectors raised and administrators cleared: a view of the control log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from defenses.reactions.alarm import StandingAlarm
from wire import Refused

if TYPE_CHECKING:
    from server.control.log import ControlLog, Event


class Alarms:
    """The alarms that stand, and how often each was cleared.

    This alone says what was cleared. Monitors write the number of clears into their logs with each request, and
    start anew with an account where that number has risen. Names under which the same weights are served share
    their alarms.

    Attributes:
        notify: Called with each alarm that this worker has raised.
    """

    def __init__(self, log: ControlLog, places: Mapping[str, str]) -> None:
        """Knows no alarm yet.

        Args:
            log: The control log.
            places: For each model, the name that stands for all with its weights.
        """
        self._log, self._places = log, places
        self.notify: Callable[[StandingAlarm], None] = lambda alarm: None
        self.reset({})

    def reset(self, saved: dict[str, Any]) -> None:
        """Takes its part of a snapshot."""
        self._standing: dict[tuple[str, str], tuple[StandingAlarm, ...]] = {}
        for account, models in saved.get("alarms", {}).items():
            for model, raised in models.items():
                for event in raised.values():
                    self._stand(account, model, StandingAlarm.of(event))
        self._clears: Counter[tuple[str, str, str]] = Counter()
        for account, model, detector, clears in saved.get("clears", []):
            self._clears[account, self.place(model), detector] += clears
        self._dismissed: dict[tuple[str, str], float] = {
            (account, self.place(model)): at for account, model, at in saved.get("dismissed", [])
        }
        self._all: Sequence[StandingAlarm] | None = None

    def save(self) -> dict[str, Any]:
        """Returns its part of a snapshot."""
        alarms: dict[str, dict[str, dict[str, Any]]] = {}
        for (account, model), standing in self._standing.items():
            alarms.setdefault(account, {})[model] = {alarm.detector: alarm._asdict() for alarm in standing}
        return {
            "alarms": alarms,
            "clears": [[*place, clears] for place, clears in self._clears.items()],
            "dismissed": [[*place, at] for place, at in self._dismissed.items()],
        }

    def fold(self, event: Event) -> bool:
        """Applies an event."""
        if event["do"] not in ("raise alarm", "clear alarm"):
            return False
        self._all = None
        account, model, detector = event["account"], event["model"], event["detector"]
        if event["do"] == "raise alarm":
            self._stand(account, model, StandingAlarm.of(event))
            return True
        place = account, self.place(model)
        self._clears[*place, detector] += 1
        if event.get("harmless"):
            self._dismissed[place] = event["at"]
        if others := self._others(account, model, detector):
            self._standing[place] = others
        else:
            self._standing.pop(place, None)
        return True

    def place(self, model: str) -> str:
        """Returns the name that stands for all names under which a model's weights are served."""
        return self._places.get(model, model)

    def _stand(self, account: str, model: str, alarm: StandingAlarm) -> None:
        others = self._others(account, model, alarm.detector)
        self._standing[account, self.place(model)] = (*others, alarm)

    def _others(self, account: str, model: str, detector: str) -> tuple[StandingAlarm, ...]:
        return tuple(alarm for alarm in self.standing(account, model) if alarm.detector != detector)

    def standing(self, account: str, model: str) -> tuple[StandingAlarm, ...]:
        """Returns the alarms of an account at a model."""
        return self._standing.get((account, self._places.get(model, model)), ())

    def clears(self, account: str, model: str, detector: str) -> int:
        """Returns how often an account's alarm was cleared."""
        return self._clears[account, self.place(model), detector]

    def dismissed(self, model: str) -> dict[str, float]:
        """Returns the accounts at a model that were found harmless, with the time up to which their rows were.

        An account with another alarm that stands is not among them.
        """
        place = self.place(model)
        return {
            account: at
            for (account, where), at in self._dismissed.items()
            if where == place and not self.standing(account, model)
        }

    def all(self) -> Sequence[StandingAlarm]:
        """Lists all alarms, oldest first; the same object until one is raised or cleared."""
        if self._all is None:
            alarms = (alarm for standing in self._standing.values() for alarm in standing)
            self._all = sorted(alarms, key=attrgetter("at"))
        return self._all

    async def raise_alarm(
        self,
        account: str,
        model: str,
        detector: str,
        clears: int,
        look: Callable[[], Awaitable[dict[str, Any] | None]],
    ) -> None:
        """Raises an alarm unless it stands, or was cleared after it was found.

        Args:
            account: The account.
            model: Name of the model.
            detector: Name of the detector.
            clears: How often the account's alarm had been cleared when this one was found.
            look: Reads the account's log on, and returns the alarm's details; None if it no longer holds.
        """

        def settled() -> bool:
            stands = self._find(account, model, detector) is not None
            return stands or self.clears(account, model, detector) > clears

        written = False

        async def event() -> Event | None:
            nonlocal written
            found = None if settled() else await look()
            written = found is not None
            if found is None:
                return None
            return {"do": "raise alarm", "account": account, "model": model, "detector": detector, **found}

        if settled():
            return
        await self._log.write(event, detector)
        if written and (alarm := self._find(account, model, detector)) is not None:
            self.notify(alarm)

    async def clear(
        self, account: str, model: str, detector: str, by: str, *, harmless: bool = False
    ) -> StandingAlarm:
        """Clears an alarm; the detector starts anew with the account.

        Args:
            account: The account.
            model: Name of the model.
            detector: Name of the detector.
            by: The administrator who clears it.
            harmless: Whether the account's rows so far were found harmless (:meth:`dismissed`).

        Returns:
            The alarm.

        Raises:
            Refused: There is no such alarm (404).
        """
        cleared: list[StandingAlarm] = []

        async def event() -> Event:
            alarm = self._find(account, model, detector)
            if alarm is None:
                missing = f"no alarm of {detector} stands for account {account!r} at model {model!r}"
                raise Refused(missing, status=404)
            cleared[:] = [alarm]
            cleared_event: Event = {"do": "clear alarm", "account": account, "model": model, "detector": detector}
            return {**cleared_event, "harmless": True} if harmless else cleared_event

        await self._log.write(event, by)
        return cleared[0]

    def _find(self, account: str, model: str, detector: str) -> StandingAlarm | None:
        return next((alarm for alarm in self.standing(account, model) if alarm.detector == detector), None)
