"""Victims: models that are loaded, or trained at the first start, and what they say of themselves."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from server.batcher import Batcher
from server.settings import Settings, Victim
from wire import Answer, BadInput, Card, Query
from zoo import folder
from zoo.network import Network


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
    if victim.folder is not None:
        try:
            return folder.load(victim.folder, device)
        except BadInput as error:
            raise BadInput(f"victim {victim.name}: {error}") from None
    raise NotImplementedError
