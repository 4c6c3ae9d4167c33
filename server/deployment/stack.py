"""From a victim and its defence stack to what an account of a plan meets."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from cli.money import MICRO
from defenses import (
    Admission,
    Dawn,
    Defense,
    Handler,
    Limit,
    Monitor,
    Price,
    Reacting,
    Redundant,
    Remembering,
    compose,
    disclosed,
)
from defenses.store import Store
from server.control.log import ControlLog
from server.deployment.models import LoadedModel
from server.settings import Plan, build_layer
from wire import BadInput, Card

Layers = Sequence[dict[str, Any]]
Timed = Callable[[str, Defense], Defense]


@dataclass(frozen=True)
class Deployed:
    """A victim as the accounts of one plan meet it.

    Attributes:
        card: What it says of itself.
        admission: Their limits and prices.
        handle: Answers the queries that are admitted.
        platform: What computes its answers.
        layers: The layers that change answers or watch, outermost first.
    """

    card: Card
    admission: Admission
    handle: Handler
    platform: str
    layers: Sequence[Defense]

    async def begin(self, victim: Card) -> None:
        """Lets each layer read what it remembers, given the bare victim's card.

        Raises:
            BadInput: What one finds is broken or does not belong here.
        """
        for i, layer in enumerate(self.layers):
            if isinstance(layer, Remembering):
                await layer.begin(victim, self.layers[i + 1 :], self.layers[:i])


def price_of(plan: Plan) -> Price:
    """Returns a plan's prices, in micro-cents."""
    return Price(int(plan.price_per_row * MICRO), int(plan.price_per_request * MICRO))


def deploy(
    served: LoadedModel,
    stack: Layers,
    plan: Plan,
    store: Store,
    secret: bytes,
    registry: ControlLog,
    timed: Timed,
) -> Deployed:
    """Puts a victim behind the defences of a plan, and behind its own less those that the plan skips.

    Where a victim tells labels alone, the plan's layers have nothing to change and are left out.

    Args:
        served: The loaded victim.
        stack: Its defence stack, outermost first.
        plan: The plan of the accounts that will meet it.
        store: Where stateful defences remember.
        secret: The server's secret; every defence of every victim gets a key of its own from it.
        registry: The control log, and the alarms in it.
        timed: Returns a layer of a kind that tells how long it takes.

    Raises:
        BadInput: The stack contradicts itself.
    """
    model = served.card.model
    bound = {
        "store": store,
        "model": model,
        "victim": served.weights,
        "alarms": registry,
        "auxiliary": served.auxiliary,
    }
    overall, outer = _built(plan.defenses, f"plan/{model}", secret, bound)
    limits, inner = _built([layer for layer in stack if layer["type"] not in plan.skip], model, secret, bound)
    for kind, layer in outer:
        if isinstance(layer, Dawn):
            raise BadInput(
                f"{kind} marks a model's rows alike for all accounts; expected among the victim's layers"
            )
        if isinstance(layer, Monitor):
            raise BadInput(f"{kind} sees what the victim itself says; expected last among the victim's layers")
    alarms = partial(registry.alarms, model)
    admission = Admission(model, limits, price_of(plan), store, overall, lambda: registry.position, alarms)
    disclosed([layer for _, layer in outer], served.card)  # whether the plan contradicts itself
    layers, card = list(inner), disclosed([layer for _, layer in inner], served.card)
    for kind, layer in reversed(outer):
        if not card.tells_probs:
            break
        try:
            card = layer.disclose(card)
        except Redundant as pointless:  # beside this victim's own; not so beside another's
            card = pointless.card
        layers.insert(0, (kind, layer))
    around = [(timed(kind, layer), isinstance(layer, Dawn)) for kind, layer in layers]
    unmarked = compose([layer for layer, marks in around if not marks], served)
    reacting = Reacting(served.card.classes, alarms, layer_secret(secret, model, "deceive"), unmarked)
    return Deployed(
        admission.disclose(card),
        admission,
        compose([reacting, *(layer for layer, _ in around)], served),
        served.platform,
        [layer for _, layer in layers],
    )


def layer_secret(secret: bytes, scope: str, kind: str, number: int = 0) -> bytes:
    """Returns the key of a layer: the first, second, ... of its kind in a stack, wherever it stands there."""
    return hashlib.blake2b(f"{scope}/{kind}/{number}".encode(), key=secret, digest_size=32).digest()


def _built(
    tables: Layers, scope: str, secret: bytes, bound: dict[str, Any]
) -> tuple[list[Limit], list[tuple[str, Defense]]]:
    """Builds limits, which must come first, and other layers with their kinds."""
    limits: list[Limit] = []
    layers: list[tuple[str, Defense]] = []
    for table in tables:
        kind = table["type"]
        number = sum(other == kind for other, _ in layers)
        defense = build_layer(table, {"secret": layer_secret(secret, scope, kind, number), **bound})
        if not isinstance(defense, Limit):
            layers.append((kind, defense))
        elif layers:
            raise BadInput(f"{kind} admits queries, so it must come before what changes answers")
        else:
            limits.append(defense)
    return limits, layers
