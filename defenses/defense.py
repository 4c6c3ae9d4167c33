"""A defence is data; bound at a site it becomes a layer around a victim.

A layer may refuse a query, answer it itself, change the query or the answer, and remember. Layers nest like the
skins of an onion: the outermost sees a query first and its answer last.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from enum import IntEnum
from functools import partial
from itertools import combinations
from typing import ClassVar, Protocol, runtime_checkable

from defenses.site import Site
from wire import Answer, BadInput, Card, Query

Handler = Callable[[Query], Awaitable[Answer]]
"""A victim, or a victim behind layers."""


class Stage(IntEnum):
    """Where a defence stands in a stack, outermost first.

    A monitor sees what the account sent and what the bare victim answered. A watermark is applied before anything
    blurs it. What an account may see is decided last.
    """

    ADMISSION = 0
    """Limits and prices decide whether the query is answered at all."""
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
    """A bound defence. An exception that it raises goes to the client, so a layer that breaks fails closed."""

    async def __call__(self, query: Query, handle: Handler) -> Answer:
        """Answers a query with the help of the layers inside."""
        ...


@runtime_checkable
class Starting(Protocol):
    """A layer that reads something before the first query."""

    async def start(self) -> None:
        """Reads it.

        Raises:
            BadInput: It is broken, or belongs to another model.
        """
        ...


class Staged(Protocol):
    """What has its place in a stack."""

    stage: ClassVar[Stage]


class Defense(Staged, Protocol):
    """A frozen dataclass of hyper-parameters."""

    def bind(self, site: Site) -> Layer:
        """Returns the layer that runs at a site."""
        ...

    def disclose(self, card: Card) -> Card:
        """Returns the card as it is seen through this layer.

        Raises:
            BadInput: It cannot work on what the layers inside disclose.
            Redundant: It can, but one of them has no effect.
        """
        ...


class Redundant(BadInput):
    """A layer, or one inside it, has no effect: a mistake in one stack, harmless where two stacks meet.

    Attributes:
        card: The card as it would be seen through the layer.
    """

    def __init__(self, why: str, card: Card) -> None:
        super().__init__(why)
        self.card = card


def answering(change: Callable[[Query, Answer], Answer]) -> Layer:
    """Returns a layer that changes the answer of the layers inside."""

    async def layer(query: Query, handle: Handler) -> Answer:
        return change(query, await handle(query))

    return layer


def check_order(stack: Sequence[tuple[str, Staged]]) -> None:
    """Checks the stages of a stack.

    Between precision and noise the cards decide (:meth:`Defense.disclose`), since a layer of noise that needs no
    probabilities may stand on either side.

    Args:
        stack: The defences with their kinds, outermost first.

    Raises:
        BadInput: A defence stands inside one of a later stage, or a detector stands twice.
    """
    blurring = {Stage.PRECISION, Stage.NOISE}
    for (outer, outside), (inner, inside) in combinations(stack, 2):
        if outside.stage is Stage.MONITOR and outer == inner:
            raise BadInput(f"{outer}: stands twice; an account has one alarm and one reaction of each detector")
        both_mark = outside.stage is inside.stage is Stage.WATERMARK
        if both_mark or (outside.stage > inside.stage and {outside.stage, inside.stage} != blurring):
            why = _REASONS.get(outside.stage, "limits must come first")
            raise BadInput(f"{outer}: {inner} stands inside it; {why}")


_REASONS = {
    Stage.WATERMARK: "marks are counted against the victim's own labels, so nothing inside may change an answer",
    Stage.MONITOR: "detectors see the victim's own answers, so they come last in a stack",
}


def compose(layers: Sequence[Layer], victim: Handler) -> Handler:
    """Wraps a victim: the first layer sees queries first and answers last."""
    for layer in reversed(layers):
        victim = partial(layer, handle=victim)
    return victim


def disclosed(defenses: Sequence[Defense], card: Card) -> Card:
    """Returns a victim's card as it is seen through its defences.

    Raises:
        BadInput: The stack contradicts itself.
    """
    for defense in reversed(defenses):
        card = defense.disclose(card)
    return card
