"""The attacker's own models, with the victim's row shape and classes."""

from __future__ import annotations

import numpy as np

from wire import Array, BadInput, Card
from zoo.data.pool import Pool
from zoo.families import FAMILIES, NETWORKS, Architecture
from zoo.model import Model
from zoo.network import Network
from zoo.recipe import Recipe
from zoo.training import Training


def class_names(card: Card) -> tuple[str, ...]:
    """Returns the names of a victim's classes, or their indices if it does not name them.

    Raises:
        BadInput: The server does not report the number of classes.
    """
    if not card.class_names and card.classes < 1:
        raise BadInput(f"{card.model}: the server does not report the number of classes; give it with --classes")
    return card.class_names or tuple(map(str, range(card.classes)))


def own_model(card: Card, family: Architecture, *, seed: int) -> Network:
    """Returns an untrained network with the victim's row shape and classes."""
    names = class_names(card)
    takes = Card(card.model, card.input_shape, len(names), low=card.low, high=card.high, class_names=names)
    return Network.untrained(family, takes, seed=seed)


def family_named(name: str) -> Architecture:
    """Returns the family of networks with this name, in its default size.

    Raises:
        BadInput: There is no such family.
    """
    if name not in NETWORKS:
        raise BadInput(f"there is no family {name!r}; expected one of {', '.join(NETWORKS)}")
    return NETWORKS[name]()


def numbers(x: Array) -> Array:
    """Returns a pool's rows if networks can be trained on them.

    Raises:
        BadInput: They are texts, or features are missing.
    """
    if x.dtype == object:
        raise BadInput("the rows are texts, and a network takes numbers; use --family tfidf where it is offered")
    if np.isnan(x).any():
        raise BadInput("features are missing in some rows, and a network cannot be trained on those")
    return x


def fitted(card: Card, family: str, x: Array, y: Array, *, seed: int, label: str = "") -> Model:
    """Trains a surrogate of a family without gradients, which learns from labels alone.

    Args:
        card: The victim's card.
        family: Name of the family.
        x: Rows, ``(n, *input_shape)``, which may lack features, or ``(n,)`` texts.
        y: The victim's answers, ``(n, k)``; every class must occur among their labels.
        seed: Seed of the fit.
        label: Name of the progress bar.

    Raises:
        BadInput: The family does not take these rows.
    """
    rows = Pool(x, y.argmax(axis=1).astype(np.int64), class_names(card), card.missing, card.features)
    return Recipe(FAMILIES[family](), Training(), seed).train(rows, label=label)


def new_seed(rng: np.random.Generator) -> int:
    """Draws a seed for a network or its training."""
    return int(rng.integers(2**31))
