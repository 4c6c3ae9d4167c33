"""Victims: models that are loaded, or trained at the first start, and their cards."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from server.deployment.batcher import Batcher
from server.deployment.companions import Models
from server.deployment.engine import Engine, engine_of, leaf_engine
from server.settings import Recipe, Settings, Victim
from wire import Answer, Array, BadInput, Card, Query
from zoo import folder
from zoo.data import Pool, load, load_or_digits, roles
from zoo.families import FAMILIES, Family, name_of
from zoo.language.model import is_language
from zoo.language.recipe import LANGUAGE
from zoo.model import Model
from zoo.recipe import READY, trained
from zoo.recipe import Recipe as ModelRecipe
from zoo.training import Training

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadedModel:
    """A loaded victim: a handler that answers in full.

    Attributes:
        card: The bare model's card.
        batcher: Runs its forward passes.
        leaves: Runs the passes that find the leaves of its trees; None if these are not disclosed.
        tokens: Counts the tokens of texts, ``(n,)``, for a model whose texts are billed by the token; else None.
        platform: Its engine's name in the protocol's metadata.
        weights: SHA-256 of its weights, as in its folder's card.
        companions: Models that can be evaluated beside it.
    """

    card: Card
    batcher: Batcher
    platform: str
    weights: str
    companions: Models
    leaves: Batcher | None = None
    tokens: Callable[[Array], Array] | None = None

    async def __call__(self, query: Query) -> Answer:
        """Answers with the bare model's labels and probabilities, or embeddings."""
        return await self.answer(query.x)

    async def answer(self, x: Array) -> Answer:
        """Answers about rows, ``(n, *input_shape)``, as a query of them is answered."""
        if self.card.embedding:
            return Answer.of_embeddings(await self.batcher(x))
        if self.leaves is None:
            probs, leaves = await self.batcher(x), None
        else:
            probs, leaves = await asyncio.gather(self.batcher(x), self.leaves(x))
        return Answer(probs.argmax(axis=1).astype(np.int64, copy=False), probs, leaves)


def speaks(victim: Victim) -> bool:
    """Returns whether a victim is a language model."""
    if victim.folder is not None:
        return is_language(victim.folder)
    return victim.recipe is not None and victim.recipe.name in LANGUAGE


def load_all(
    settings: Settings, observe: Callable[[str, int, float, float], None] | None = None
) -> dict[str, LoadedModel]:
    """Loads every victim but language models, and trains those with recipes that are not in the state folder yet.

    Training may use all cores; from then on torch and numpy use as many threads as the settings say. Each model
    has threads of its own for long passes, so a slow victim leaves a fast one its share of the cores.

    Args:
        settings: The server's settings.
        observe: Called after each pass with the victim's name, the rows, the seconds for which the first of them
            had waited, and the seconds that it took.

    Raises:
        BadInput: A victim's folder is broken, or its data is not available; no victim is served then.
    """
    models: dict[Hashable, Model] = {}
    victims = [victim for victim in settings.victims if not speaks(victim)]
    for victim in victims:
        if _source(victim) not in models:
            models[_source(victim)] = _model(victim, settings)
    weights = {source: folder.fingerprint(model) for source, model in models.items()}
    torch.set_num_threads(settings.threads)
    threadpool_limits(settings.threads)  # numpy's products too, whose idle threads spin
    engines: dict[Hashable, tuple[Engine, Executor]] = {}
    beside: dict[Hashable, Models] = {}
    cache = settings.state / "cache"
    served = {}
    for victim in victims:
        source = _source(victim)
        try:
            card = _card(victim, models[source])
            if source not in engines:
                engine = engine_of(models[source], victim, card, cache, settings.threads)
                engines[source] = engine, ThreadPoolExecutor(engine.width, thread_name_prefix="forward")
        except BadInput as error:
            raise BadInput(f"victim {victim.name}: {error}") from None
        engine, threads = engines[source]
        batcher = Batcher(engine, threads, None if observe is None else partial(observe, victim.name))
        aside = beside.setdefault(source, Models(models[source], victim, card, cache, settings.threads, threads))
        leaves = Batcher(leaf_engine(models[source].network()), threads) if victim.leaves else None
        tokens = getattr(models[source], "tokens", None)
        served[victim.name] = LoadedModel(card, batcher, engine.platform, weights[source], aside, leaves, tokens)
    return served


def _source(victim: Victim) -> Hashable:
    """Returns a key that victims with the same model and engine share."""
    return victim.folder, victim.recipe, victim.engine, victim.precision, victim.pass_rows, victim.dtype


def _card(victim: Victim, model: Model) -> Card:
    if victim.embeddings:
        raise BadInput(f"embeddings = true is for language models, and {victim.name} answers about rows")
    card = replace(model.card(), model=victim.name, version=victim.version, max_rows=victim.max_rows)
    if victim.leaves:
        card = replace(card, trees=model.network().trees)
        if not card.trees:
            raise BadInput(
                f"leaves = true is for trees, forests and boosted trees, and a {name_of(model.family)} is none"
            )
    if victim.precision == "float64" and not card.embedding:
        return replace(card, dtype="FP64")
    if victim.dtype != "UINT8":
        return card
    if (card.low, card.high) != (0, 1):
        raise BadInput(f'dtype = "UINT8" is for rows from 0 to 1, but the model takes {card.low} to {card.high}')
    return replace(card, dtype=victim.dtype, low=0.0, high=255.0)


def _model(victim: Victim, settings: Settings) -> Model:
    device = None if settings.device == "auto" else settings.device
    if victim.engine == "onnxruntime":
        device = "cpu"
    try:
        if victim.folder is not None:
            return folder.load(victim.folder, device)
        assert victim.recipe is not None  # the settings see to it
        return _trained(victim.recipe, settings, device)
    except BadInput as error:
        raise BadInput(f"victim {victim.name}: {error}") from None


def _trained(recipe: Recipe, settings: Settings, device: str | None) -> Model:
    """Trains on the victim's role; the files of all roles go to the state folder, each for its party."""
    cache = settings.state / "cache"
    name, family, training = _described(recipe)
    if name is None:
        dataset, missed = load_or_digits("fashion_mnist", settings.data, cache)
        if missed:
            log.warning(missed)
    else:
        dataset = load(name, settings.data, cache)
    files = roles.kept(dataset, recipe.seed, settings.state)
    log.info("%s, from %s; the roles' rows are in %s", dataset.name, dataset.source, files)
    made = ModelRecipe(family, training, recipe.seed or 0)
    return trained(made, Pool.load(files / "victim.npz"), cache, device=device, label="victim")


def _described(recipe: Recipe) -> tuple[str | None, Family, Training]:
    """Returns the name of the data set, the family and how to train."""
    if recipe.name is not None:
        if recipe.name not in READY:
            raise BadInput(f"there is no recipe {recipe.name!r}; there are {', '.join(READY)}")
        ready = READY[recipe.name]
        return ready.data, ready.family, ready.training
    if recipe.family not in FAMILIES:
        raise BadInput(f"there is no family {recipe.family!r}; there are {', '.join(FAMILIES)}")
    return recipe.data, FAMILIES[recipe.family](), Training(checkpoints=recipe.checkpoints)
