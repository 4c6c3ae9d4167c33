"""Victims: models that are loaded, or trained at the first start, and what they say of themselves."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from server.batcher import Batcher
from server.settings import Recipe, Settings, Victim
from wire import Answer, BadInput, Card, Query
from zoo import folder
from zoo.data import Pool, load, load_or_digits, roles
from zoo.families import FAMILIES
from zoo.network import Network
from zoo.recipe import Recipe as NetworkRecipe
from zoo.recipe import trained
from zoo.training import Training

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Served:
    """A loaded victim: a handler that answers in full.

    Attributes:
        card: What the bare model says of itself.
        batcher: The way to it.
    """

    card: Card
    batcher: Batcher

    async def __call__(self, query: Query) -> Answer:
        """Answers with the bare model's labels and probabilities."""
        probs = await self.batcher(query.x)
        return Answer(probs.argmax(axis=1).astype(np.int64), probs)


def load_all(settings: Settings) -> dict[str, Served]:
    """Loads every victim, and trains those that are told as recipes and not yet in the state folder.

    Victims of one folder share one model; all passes of all models take turns on one thread.

    Raises:
        BadInput: A victim's folder is broken, or its data cannot be had; no victim is served then.
    """
    turns = ThreadPoolExecutor(1, thread_name_prefix="forward")
    device = None if settings.device == "auto" else settings.device
    batchers: dict[str, tuple[Network, Batcher]] = {}
    served = {}
    for victim in settings.victims:
        source = repr(victim.folder or victim.recipe)
        if source not in batchers:
            network = _network(victim, settings, device)
            batchers[source] = network, Batcher(network.predict, turns)
        network, batcher = batchers[source]
        served[victim.name] = Served(_card(victim, network), batcher)
    return served


def _card(victim: Victim, network: Network) -> Card:
    return Card(
        model=victim.name,
        input_shape=network.input_shape,
        classes=network.classes,
        version=victim.version,
        low=network.low,
        high=network.high,
        max_rows=victim.max_rows,
        class_names=network.class_names,
    )


def _network(victim: Victim, settings: Settings, device: str | None) -> Network:
    try:
        if victim.folder is not None:
            return folder.load(victim.folder, device)
        assert victim.recipe is not None  # the settings see to it
        return _trained(victim.recipe, settings, device)
    except BadInput as error:
        raise BadInput(f"victim {victim.name}: {error}") from None


def _trained(recipe: Recipe, settings: Settings, device: str | None) -> Network:
    """Trains on the victim's role; the files of all roles go to the state folder, each for its party."""
    cache = settings.state / "cache"
    if recipe.data is None:
        dataset, missed = load_or_digits("fashion_mnist", settings.data, cache)
        if missed:
            log.warning(missed)
    else:
        dataset = load(recipe.data, settings.data, cache)
    files = roles.written(dataset, recipe.seed, settings.state / "roles" / f"{dataset.name}-{recipe.seed}")
    log.info("%s, from %s; the roles' rows are in %s", dataset.name, dataset.source, files)
    made = NetworkRecipe(FAMILIES[recipe.family](), Training(), recipe.seed)
    return trained(made, Pool.load(files / "victim.npz"), cache, device=device, label=f"{recipe.family} victim")
