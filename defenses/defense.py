"""A defence wraps a victim: it may refuse, answer by itself, change the query or the answer, and remember."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from enum import IntEnum
from functools import partial
from typing import Protocol, runtime_checkable

from wire import Answer, BadInput, Card, Query

Handler = Callable[[Query], Awaitable[Answer]]
"""A victim, or a victim behind defences."""


class Stage(IntEnum):
    """Where a defence stands in a stack, outermost first.

    A monitor sees what the account sent and what the bare victim answered. A watermark is applied before anything
    blurs it. What an account may see is decided last.
    """

    ADMISSION = 0
    """Limits and prices: whether the query is answered at all."""
    REACTION = 1
    """What becomes of accounts that raised an alarm."""
    PRECISION = 2
    """How much of the answer is disclosed; the label stays."""
    NOISE = 3
    """Changes probabilities, and perhaps the label."""
    WATERMARK = 4
    """Changes some labels, to recognise copies by them."""
    MONITOR = 5
    """Watches, and changes nothing."""


class Layer(Protocol):
    """What runs around a victim. What it raises goes out to the client: a layer that breaks fails closed."""

    async def __call__(self, query: Query, handle: Handler) -> Answer:
        """Answers a query with the help of the layers inside."""
        ...


@runtime_checkable
class Starting(Protocol):
    """A layer that reads at start what it needs."""

    async def start(self) -> None:
        """Reads it.

        Raises:
            BadInput: What it finds is broken or belongs to another model.
        """
        ...


class Redundant(BadInput):
    """A layer could be left out, or one inside it: who stacked them meant something else.

    Attributes:
        card: The card as it would be seen through the layer, which does no harm.
    """

    def __init__(self, why: str, card: Card) -> None:
        super().__init__(why)
        self.card = card


class Defense(Protocol):
    """One layer around a victim. What it raises goes out to the client: a defence that breaks fails closed."""

    async def __call__(self, query: Query, handle: Handler) -> Answer:
        """Answers a query with the help of the layers inside."""
        ...

    def disclose(self, card: Card) -> Card:
        """Returns the card as it is seen through this layer.

        Raises:
            BadInput: It cannot work on what the layers inside tell.
            Redundant: It can, but one of them does nothing.
        """
        ...


@runtime_checkable
class Remembering(Protocol):
    """A layer that reads at start what it remembers."""

    async def begin(self, card: Card, inside: Sequence[Defense], outside: Sequence[Defense]) -> None:
        """Reads it.

        Args:
            card: The bare victim's.
            inside: The layers inside this one, the outermost first.
            outside: Those outside, likewise.

        Raises:
            BadInput: What it finds is broken or does not belong here, or another layer would undo its work.
        """
        ...


def compose(defenses: Sequence[Defense], victim: Handler) -> Handler:
    """Wraps a victim: the first defence sees queries first and answers last."""
    for defense in reversed(defenses):
        victim = partial(defense, handle=victim)
    return victim


def disclosed(defenses: Sequence[Defense], card: Card) -> Card:
    """Returns a victim's card as it is seen through its defences.

    Raises:
        BadInput: The stack contradicts itself.
    """
    for defense in reversed(defenses):
        card = defense.disclose(card)
    return card
