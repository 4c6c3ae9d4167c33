"""A rule of admission."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from wire import Card

State = dict[str, Any]


@runtime_checkable
class Rule(Protocol):
    """A limit or a price; its state is a part of the account's document, under the rule's name."""

    @property
    def name(self) -> str:
        """Where the rule keeps its state."""
        ...

    def take(self, state: State, rows: int, at: float) -> None:
        """Takes ``rows`` rows at the time ``at`` (seconds) out of ``state``.

        Raises:
            Refused: That many may not pass now.
        """
        ...

    def give_back(self, state: State, rows: int, at: float) -> None:
        """Undoes :meth:`take` for a request that was not answered."""
        ...

    def left(self, state: State, at: float) -> int | None:
        """Tells how many rows may pass at the time ``at``; None if the rule sets no limit."""
        ...

    def disclose(self, card: Card) -> Card:
        """Returns the card as it is seen through this rule."""
        ...
