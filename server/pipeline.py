"""From a victim and its defence stack to what an account of a plan meets."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from defenses import Admission, Defense, Handler, Price, Rule, compose, disclosed
from defenses.store import Store
from server.settings import Plan, Victim, build_layer
from server.victims import Served
from wire import BadInput, Card
from wire.command import MICRO


@dataclass(frozen=True)
class Deployed:
    """A victim as the accounts of one plan meet it.

    Attributes:
        card: What it says of itself.
        handle: Answers their queries.
        admission: Their limits and prices.
    """

    card: Card
    handle: Handler
    admission: Admission


def price_of(plan: Plan) -> Price:
    """Returns a plan's prices, in micro-cents."""
    return Price(int(plan.price_per_row * MICRO), int(plan.price_per_request * MICRO))


def deploy(victim: Victim, served: Served, plan: Plan, store: Store, secret: bytes) -> Deployed:
    """Puts a victim behind its defences, less those that the plan skips.

    Args:
        victim: The victim's settings.
        served: The loaded victim.
        plan: The plan of the accounts that will meet it.
        store: Where stateful defences remember.
        secret: The server's secret; every defence of every victim gets a key of its own from it.

    Raises:
        BadInput: The stack contradicts itself.
    """
    limits: list[Rule] = []
    layers: list[Defense] = []
    for layer in victim.defenses:
        kind = layer["type"]
        if kind in plan.skip:
            continue
        name = f"{victim.name}/{kind}/{len(layers)}"
        key = hashlib.blake2b(name.encode(), key=secret, digest_size=32).digest()
        defense = build_layer(layer, {"secret": key})
        if not isinstance(defense, Rule):
            layers.append(defense)
        elif layers:
            raise BadInput(
                f"victim {victim.name}: {kind} admits queries, so it must come before what changes answers"
            )
        elif defense.name in [limit.name for limit in limits]:
            raise BadInput(f"victim {victim.name}: two layers keep the limit {defense.name}; expected one")
        else:
            limits.append(defense)
    admission = Admission(victim.name, limits, price_of(plan), store)
    stack = [admission, *layers]
    try:
        return Deployed(disclosed(stack, served.card), compose(stack, served), admission)
    except BadInput as error:
        raise BadInput(f"victim {victim.name}: {error}") from None
