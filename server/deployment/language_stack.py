"""From a language model and its defences to what the accounts of a plan meet."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from defenses import (
    Admission,
    Generate,
    GenerationDefense,
    GenerationSite,
    Limit,
    Offer,
    Stage,
    check_order,
    compose,
)
from defenses.generation import GenerationLayer
from defenses.site import Site
from server.deployment.stack import Tables, layer_secret, price_of
from server.layer_tables import generation_of, is_about_rows
from server.settings import Plan, Victim
from wire import BadInput, Card
from zoo.language.model import LanguageModel

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SpokenTo:
    """A language model as the accounts of one plan meet it.

    Attributes:
        name: Its name.
        model: The model.
        offer: What it offers them.
        admission: Their limits and prices.
        most: Most tokens of a request.
        generate: Answers admitted prompts.
    """

    name: str
    model: LanguageModel
    offer: Offer
    admission: Admission
    most: int
    generate: Generate


@dataclass(frozen=True)
class _Bound:
    kind: str
    defense: GenerationDefense
    layer: GenerationLayer


class _Stack:
    """Defences that are bound at one language model, outermost first."""

    def __init__(self, tables: Tables, scope: str, secret: bytes, site: GenerationSite) -> None:
        """Binds them; a layer's key depends on the weights, as a classifier's layers' do.

        Raises:
            BadInput: The stack contradicts itself.
        """
        defenses = [(table["type"], generation_of(table)) for table in tables]
        check_order(defenses)
        self.limits: list[tuple[str, Limit]] = []
        self.layers: list[_Bound] = []
        for kind, defense in defenses:
            if isinstance(defense, Limit):
                self.limits.append((kind, defense))
                continue
            number = sum(bound.kind == kind for bound in self.layers)
            settings = f"{kind} {defense}" if defense.stage is Stage.NOISE else kind
            key = layer_secret(secret, f"{scope}weights/{site.fingerprint}", settings, number)
            self.layers.append(_Bound(kind, defense, defense.bind(replace(site, secret=key))))


def deploy_language(
    victim: Victim,
    model: LanguageModel,
    generate: Generate,
    plans: Mapping[str, Plan],
    secret: bytes,
    prompts: Site | None = None,
) -> dict[str, SpokenTo]:
    """Puts a language model behind its defences, and in front of the plans.

    A plan's layers about rows do not concern it, and are left out with a warning.

    Args:
        victim: Its settings.
        model: The model.
        generate: Answers without defences.
        plans: The plans, by name.
        secret: The server's secret.
        prompts: The model as detectors meet it; None if nothing is watched.

    Raises:
        BadInput: A stack contradicts itself, or has layers about rows.
    """
    site = GenerationSite(victim.name, model.fingerprint, b"", prompts, model.tokens.decode)
    gpt = model.gpt
    bare = Offer(gpt.vocabulary, gpt.context, echo=not gpt.reads, embeddings=victim.embeddings)
    try:
        own = _Stack(victim.defenses, "", secret, site)
    except BadInput as error:
        raise BadInput(f"victim {victim.name}: {error}") from None
    spoken = {}
    for name, plan in plans.items():
        for table in filter(is_about_rows, plan.defenses):
            log.warning("plan %s: its layer %s does not protect %s", name, table["type"], victim.name)
        tables = [table for table in plan.defenses if not is_about_rows(table)]
        try:
            outer = _Stack(tables, "plan/", secret, site)
            layers = _selected(own, plan, outer)
        except BadInput as error:
            raise BadInput(f"victim {victim.name}, plan {name}: {error}") from None
        limits = [limit for kind, limit in own.limits if kind not in plan.skip]
        admission = Admission(victim.name, limits, price_of(plan), [limit for _, limit in outer.limits])
        most = admission.disclose(Card(victim.name, (), 2, max_rows=victim.max_rows)).max_rows
        offer = bare
        for bound in reversed(layers):
            offer = bound.defense.disclose(offer)
        around = compose([bound.layer for bound in layers], generate)
        spoken[name] = SpokenTo(victim.name, model, offer, admission, most, around)
    return spoken


def _selected(own: _Stack, plan: Plan, outer: _Stack) -> Sequence[_Bound]:
    """Returns the layers of a plan: its own outside those of the model that apply."""
    for bound in outer.layers:
        if bound.defense.stage >= Stage.WATERMARK:
            raise BadInput(f"{bound.kind} is the same for all accounts; expected among the victim's own layers")
    return [*outer.layers, *(bound for bound in own.layers if bound.kind not in plan.skip)]
