"""The protocol of a defence: a dataclass that, bound to a site, becomes a layer around a victim.

A layer may refuse a query, answer it itself, change the query or the answer, and keep state. Layers nest: the
outermost sees a query first and its answer last.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import partial
from itertools import combinations
from typing import ClassVar, Protocol, TypeVar, runtime_checkable

from defenses.site import Site
from wire import Answer, Array, BadInput, Card, Query

Handler = Callable[[Query], Awaitable[Answer]]
"""A victim, or a victim behind layers."""


class Stage(IntEnum):
    """The position of a defence in a stack, outermost first.

    A monitor sees the account's rows and the bare victim's answers. A watermark is applied before noise. The
    precision of the disclosed answer is reduced last.
    """

    ADMISSION = 0
    """Limits and prices decide whether the query is answered at all."""
    REACTION = 1
    """Treats accounts that raised an alarm differently."""
    PRECISION = 2
    """Limits how much of the answer is disclosed; the label stays."""
    NOISE = 3
    """Changes probabilities, and possibly the label."""
    WATERMARK = 4
    """Changes some labels, so that copies can be recognised."""
    MONITOR = 5
    """Observes, and changes nothing."""


class Layer(Protocol):
    """A bound defence. Its exceptions reach the client, so that a failing layer fails closed."""

    async def __call__(self, query: Query, handle: Handler) -> Answer:
        """Answers a query; ``handle`` stands for the layers inside."""
        ...


@runtime_checkable
class Starting(Protocol):
    """A layer that loads data before the first query."""

    async def start(self) -> None:
        """Loads the data.

        Raises:
            BadInput: The data is invalid, or belongs to another model.
        """
        ...


class Staged(Protocol):
    """Anything with a position in a stack."""

    stage: ClassVar[Stage]


class Defense(Staged, Protocol):
    """A frozen dataclass of hyper-parameters."""

    def bind(self, site: Site) -> Layer:
        """Returns the layer that runs at a site."""
        ...

    def disclose(self, card: Card) -> Card:
        """Returns the card as seen through this layer.

        Raises:
            BadInput: The layer cannot work on what the layers inside disclose.
            Redundant: The layer works, but it or a layer inside has no effect.
        """
        ...


class Redundant(BadInput):
    """A layer, or one inside it, has no effect: an error within a stack, but harmless when stacks are combined.

    Attributes:
        card: The card as seen through the layer.
    """

    def __init__(self, why: str, card: Card) -> None:
        super().__init__(why)
        self.card = card


Change = Callable[[Array, Answer], Answer]
"""From rows, ``(n, ...)``, and the answer about them to another answer, each row by itself."""


@dataclass(frozen=True)
class RowWise:
    """A layer that changes the answer of the layers inside, each row by itself.

    So it may change the answers to many queries at once, which are then the same to the last bit.

    Attributes:
        change: The function.
    """

    change: Change

    async def __call__(self, query: Query, handle: Handler) -> Answer:
        """Answers a query."""
        return self.change(query.x, await handle(query))


def check_order(stack: Sequence[tuple[str, Staged]]) -> None:
    """Checks the order of stages in a stack.

    The order of precision and noise is left to :meth:`Defense.disclose`, since a noise layer that needs no
    probabilities may stand on either side.

    Args:
        stack: The defences with their kinds, outermost first.

    Raises:
        BadInput: A defence stands inside one of a later stage, or the stack has a detector twice.
    """
    blurring = {Stage.PRECISION, Stage.NOISE}
    for (outer, outside), (inner, inside) in combinations(stack, 2):
        if outside.stage is Stage.MONITOR and outer == inner:
            raise BadInput(f"{outer}: listed twice; an account has one alarm and one reaction per detector")
        both_mark = outside.stage is inside.stage is Stage.WATERMARK
        if both_mark or (outside.stage > inside.stage and {outside.stage, inside.stage} != blurring):
            why = _REASONS.get(outside.stage, "limits must come first")
            raise BadInput(f"{outer}: {inner} stands inside it; {why}")


_REASONS = {
    Stage.WATERMARK: "marks are counted against the victim's own labels, so nothing inside may change an answer",
    Stage.MONITOR: "detectors see the victim's own answers, so they come last in a stack",
}


Asked = TypeVar("Asked")
Told = TypeVar("Told")


class Wrapping(Protocol[Asked, Told]):
    """A layer of any messages: a classifier's, or a language model's."""

    async def __call__(self, asked: Asked, /, handle: Callable[[Asked], Awaitable[Told]]) -> Told:
        """Answers; ``handle`` stands for the layers inside."""
        ...


def compose(
    layers: Sequence[Wrapping[Asked, Told]], victim: Callable[[Asked], Awaitable[Told]]
) -> Callable[[Asked], Awaitable[Told]]:
    """Wraps a victim: the first layer sees what is asked first and answers last."""
    for layer in reversed(layers):
        victim = partial(layer, handle=victim)
    return victim


def compose_row_wise(
    layers: Sequence[Layer], victim: Callable[[Array], Awaitable[Answer]]
) -> Callable[[Array], Awaitable[Answer]] | None:
    """Wraps a victim as :func:`compose` does, for the rows of many queries at once.

    Args:
        layers: The layers, outermost first.
        victim: Answers about rows, ``(n, ...)``.

    Returns:
        The function from rows to their answer; None if a layer needs to see every query alone.
    """
    changes = [layer.change for layer in reversed(layers) if isinstance(layer, RowWise)]
    if len(changes) < len(layers):
        return None

    async def handle(x: Array) -> Answer:
        answer = await victim(x)
        for change in changes:
            answer = change(x, answer)
        return answer

    return handle


def disclosed(defenses: Sequence[Defense], card: Card) -> Card:
    """Returns a victim's card as seen through its defences.

    Raises:
        BadInput: The defences do not work together.
    """
    for defense in reversed(defenses):
        card = seen_through(defense, card)
    return card


def seen_through(defense: Defense, card: Card) -> Card:
    """Returns a card as seen through a defence; whatever changes answers leaves out leaves, which would undo it.

    A defence of embeddings has a class attribute ``embeddings``, which is true.

    Raises:
        BadInput: The defence cannot work on what the layers inside disclose, or it changes probabilities where the
            model answers embeddings, or the reverse.
        Redundant: It works, but it or a layer inside has no effect.
    """
    changes = Stage.PRECISION <= defense.stage <= Stage.WATERMARK
    takes = "embeddings" if getattr(defense, "embeddings", False) else "classes"
    told = f"embeddings of {card.embedding} numbers" if card.embedding else "classes"
    if changes and not told.startswith(takes):
        raise BadInput(f"{type(defense).__name__} changes answers about {takes}, and the model answers {told}")
    return defense.disclose(replace(card, trees=0) if changes else card)
