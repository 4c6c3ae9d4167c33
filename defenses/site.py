"""The site to which a defence is bound: the protected model, and the resources for its layers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

from defenses.answers.grid import Grid
from defenses.companions import Companions
from defenses.reactions.alarm import StandingAlarm
from defenses.store import Store
from wire import Card


class Alarms(Protocol):
    """Raises and counts alarms for monitors."""

    def standing(self, account: str, model: str) -> Sequence[StandingAlarm]:
        """Returns the alarms of an account at a model."""
        ...

    def clears(self, account: str, model: str, detector: str) -> int:
        """Returns how often an account's alarm was cleared."""
        ...

    async def raise_alarm(
        self,
        account: str,
        model: str,
        detector: str,
        clears: int,
        look: Callable[[], Awaitable[dict[str, Any] | None]],
    ) -> None:
        """Raises an alarm unless it is already raised, or was cleared after it was found.

        Args:
            account: The account.
            model: Name of the model.
            detector: Name of the detector.
            clears: How often the account's alarm had been cleared when this one was found.
            look: Reads new entries of the account's log, then returns the alarm's details; None if it was cleared.
        """
        ...


@dataclass(frozen=True, eq=False)
class Site:
    """A served model, and the resources for its defences.

    Attributes:
        model: Name of the model.
        card: The bare model's card.
        fingerprint: SHA-256 of the model's weights, in hexadecimal.
        secret: The layer's own key, 32 bytes; no two layers share one.
        store: The store of the layers' state.
        alarms: Raises alarms.
        companions: Models that can be evaluated beside the served one.
        former: The key that earlier versions gave the layer, which knew a model by its name.
        place: Name under which state about accounts is kept; the same for all names under which the weights are
            served.
    """

    model: str
    card: Card
    fingerprint: str
    secret: bytes = field(repr=False)
    store: Store
    alarms: Alarms
    companions: Companions
    former: bytes = field(default=b"", repr=False)
    place: str = ""

    @cached_property
    def grid(self) -> Grid:
        """The grid to which rows are rounded before anything is keyed by them."""
        return Grid.of(self.card)
