"""From a victim and its defences to what the accounts of a plan meet."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from cli.money import MICRO
from defenses import (
    GENERATION,
    Admission,
    Defense,
    Handler,
    Layer,
    Limit,
    Price,
    Reaction,
    Redundant,
    Site,
    Stage,
    Starting,
    check_order,
    compose_row_wise,
    disclosed,
    seen_through,
)
from defenses.store import Store
from defenses.watermarks.survival import check_survival
from server.control.log import ControlLog
from server.deployment.models import LoadedModel
from server.deployment.recording import AccessLog
from server.layer_tables import defense_of
from server.settings import Plan
from wire import Answer, Array, BadInput, Card

log = logging.getLogger(__name__)

Tables = Sequence[dict[str, Any]]
Timed = Callable[[str, Layer], Layer]


@dataclass(frozen=True)
class Bound:
    """A defence of a stack, and the layer that runs.

    Attributes:
        kind: Its type in the TOML.
        defense: The defence.
        layer: The layer.
        timed: The layer, whose time is counted.
    """

    kind: str
    defense: Defense
    layer: Layer
    timed: Layer


@dataclass(frozen=True)
class Stack:
    """Defences that are bound at one site.

    Attributes:
        limits: The limits, with their kinds.
        layers: The others, outermost first.
    """

    limits: Sequence[tuple[str, Limit]]
    layers: Sequence[Bound]

    @staticmethod
    def of(tables: Tables, scope: str, secret: bytes, site: Site, timed: Timed) -> Stack:
        """Binds a stack.

        A layer's key depends on the weights, not on the model's name: weights that are served under two names get
        the same noise and marks from the same settings, so comparing the two tells nothing. Noise of other
        settings has another key, since the difference of two multiples of the same noise would tell it.

        Args:
            tables: The defences, outermost first, each with its ``type`` and its fields.
            scope: Begins the name of the stack among those that share the secret.
            secret: The server's secret; every layer gets a key of its own from it.
            site: Where the defences are bound, with any key.
            timed: Returns a layer that counts its time.

        Raises:
            BadInput: The stack contradicts itself.
        """
        defenses: list[tuple[str, Defense | Limit]] = [(table["type"], defense_of(table)) for table in tables]
        check_order(defenses)
        limits: list[tuple[str, Limit]] = []
        layers: list[Bound] = []
        for kind, defense in defenses:
            if isinstance(defense, Limit):
                limits.append((kind, defense))
                continue
            number = sum(bound.kind == kind for bound in layers)
            settings = f"{kind} {defense}" if defense.stage is Stage.NOISE else kind
            key = layer_secret(secret, f"{scope}weights/{site.fingerprint}", settings, number)
            former = layer_secret(secret, f"{scope}{site.model}", kind, number)
            layer = defense.bind(replace(site, secret=key, former=former))
            layers.append(Bound(kind, defense, layer, timed(kind, layer)))
        return Stack(limits, layers)

    async def start(self) -> None:
        """Lets each layer read what it needs.

        Raises:
            BadInput: What one finds is broken or belongs to another model.
        """
        for bound in self.layers:
            if isinstance(bound.layer, Starting):
                await bound.layer.start()


@dataclass(frozen=True)
class Deployed:
    """A victim as the accounts of one plan meet it.

    Attributes:
        card: Its card.
        admission: Their limits and prices.
        reaction: Answers admitted queries, as the account's alarms say.
        together: Answers about the rows of many admitted queries of accounts without alarms; None if a layer
            needs to see every query alone.
        pass_rows: Most rows of a forward pass.
        platform: The engine's name.
        layers: The layers around the victim, outermost first.
        tokens: Counts the tokens of texts, where these are billed in place of rows; else None.
    """

    card: Card
    admission: Admission
    reaction: Reaction
    together: Callable[[Array], Awaitable[Answer]] | None
    pass_rows: int
    platform: str
    layers: Sequence[Bound]
    tokens: Callable[[Array], Array] | None = None

    async def check(self, classes: int) -> None:
        """Checks that the marks survive the noise outside them.

        Raises:
            BadInput: They do not.
        """
        stages = [bound.defense.stage for bound in self.layers]
        if Stage.WATERMARK not in stages:
            return
        outside = self.layers[: stages.index(Stage.WATERMARK)]
        noise = [bound for bound in outside if bound.defense.stage is Stage.NOISE]
        for bound in noise:
            if isinstance(
                bound.layer, Starting
            ):  # it asks another model about the row, so made-up rows say nothing
                log.warning("model %s: the marks of rows that %s changes are lost", self.card.model, bound.kind)
        tried = [bound.layer for bound in noise if not isinstance(bound.layer, Starting)]
        await check_survival(self.card.model, tried, classes)


def price_of(plan: Plan) -> Price:
    """Returns a plan's prices, in micro-cents."""
    prices = (
        plan.price_per_row,
        plan.price_per_request,
        plan.price_per_prompt_token,
        plan.price_per_completion_token,
    )
    return Price(*[int(price * MICRO) for price in prices])


@dataclass(frozen=True)
class Deployment:
    """A victim with its defences, as the accounts of all plans meet it.

    Attributes:
        stack: The victim's own defences, bound once.
        outer: Each plan's defences, which stand outside.
        plans: What the accounts of each plan meet.
    """

    stack: Stack
    outer: dict[str, Stack]
    plans: dict[str, Deployed]

    async def start(self, classes: int) -> None:
        """Lets all layers read what they need.

        Raises:
            BadInput: What one finds is broken, belongs to another model, or would be destroyed by another.
        """
        for stack in (self.stack, *self.outer.values()):
            await stack.start()
        for plan, deployed in self.plans.items():
            with _naming(deployed.card.model, plan):
                await deployed.check(classes)


def deploy(
    served: LoadedModel,
    tables: Tables,
    plans: Mapping[str, Plan],
    store: Store,
    secret: bytes,
    control: ControlLog,
    timed: Timed,
    place: str,
    access_log: AccessLog | None,
) -> Deployment:
    """Puts a victim behind its defences, and in front of the plans.

    Args:
        served: The loaded victim.
        tables: Its defences, outermost first.
        plans: The plans, by name.
        store: Where layers keep their state.
        secret: The server's secret.
        control: The control log, and the alarms in it.
        timed: Returns a layer that counts its time.
        place: Name under which state about accounts is kept.
        access_log: Records what is asked; None if nothing is recorded.

    Raises:
        BadInput: A stack contradicts itself.
    """
    model = served.card.model
    site = Site(model, served.card, served.weights, b"", store, control.alarms, served.companions, place=place)
    with _naming(model):
        stack = Stack.of(tables, "", secret, site, timed)
    victim = served if access_log is None else _recorded(access_log, served, stack, site)
    outer, deployed = {}, {}
    for name, plan in plans.items():
        with _naming(model, name):
            about_rows = [table for table in plan.defenses if table["type"] not in GENERATION]
            outer[name] = Stack.of(about_rows, "plan/", secret, site, timed)
            deployed[name] = _on_plan(served, victim, stack, name, plan, outer[name], site, secret)
    return Deployment(stack, outer, deployed)


def _recorded(access_log: AccessLog, served: LoadedModel, stack: Stack, site: Site) -> Handler:
    """Returns the victim that records what it is asked."""
    kinds = [bound.kind for bound in stack.layers if bound.defense.stage is Stage.MONITOR]

    def clears(account: str) -> dict[str, int]:
        counts = {kind: site.alarms.clears(account, site.model, kind) for kind in kinds}
        return {kind: count for kind, count in counts.items() if count}

    return access_log.around(site.model, site.place, served, clears)


def _on_plan(
    served: LoadedModel,
    victim: Handler,
    stack: Stack,
    name: str,
    plan: Plan,
    outer: Stack,
    site: Site,
    secret: bytes,
) -> Deployed:
    """Selects the victim's layers that apply on a plan, and puts the plan's own outside.

    Where a victim discloses labels only, the plan's layers have nothing to change and are left out; those of an
    encoder are left out with a warning.
    """
    for bound in outer.layers:
        if bound.defense.stage >= Stage.WATERMARK:
            raise BadInput(f"{bound.kind} is the same for all accounts; expected among the victim's own layers")
    if not served.card.embedding:
        disclosed([bound.defense for bound in outer.layers], served.card)  # whether the plan contradicts itself
    layers = [bound for bound in stack.layers if bound.kind not in plan.skip]
    card = disclosed([bound.defense for bound in layers], served.card)
    for bound in reversed(outer.layers):
        if card.embedding:
            log.warning("plan %s: its layer %s does not protect %s", name, bound.kind, site.model)
            continue
        if not card.tells_probs:
            break
        try:
            card = seen_through(bound.defense, card)
        except Redundant as redundant:  # beside this victim's own; not so beside another's
            card = redundant.card
        layers.insert(0, bound)
    limits = [limit for kind, limit in stack.limits if kind not in plan.skip]
    overall = [limit for _, limit in outer.limits]
    admission = Admission(site.model, limits, price_of(plan), overall)
    timed = [bound.timed for bound in layers]
    reaction = Reaction(
        served.card.classes,
        layer_secret(secret, f"weights/{site.fingerprint}", "deceive"),
        victim,
        [bound.timed for bound in layers if bound.defense.stage < Stage.WATERMARK],
        [bound.timed for bound in layers if bound.defense.stage is Stage.WATERMARK],
        [bound.timed for bound in layers if bound.defense.stage is Stage.MONITOR],
        site.grid,
    )
    return Deployed(
        admission.disclose(card),
        admission,
        reaction,
        compose_row_wise(timed, served.answer) if victim is served else None,
        served.batcher.most,
        served.platform,
        layers,
        served.tokens,
    )


@contextmanager
def _naming(model: str, plan: str | None = None) -> Iterator[None]:
    """Says of a fault whose it is."""
    try:
        yield
    except BadInput as error:
        raise BadInput(f"victim {model}{'' if plan is None else f', plan {plan}'}: {error}") from None


def layer_secret(secret: bytes, scope: str, kind: str, number: int = 0) -> bytes:
    """Returns the key of a layer: the first, second, ... of its kind in a stack, wherever it stands there."""
    return hashlib.blake2b(f"{scope}/{kind}/{number}".encode(), key=secret, digest_size=32).digest()
