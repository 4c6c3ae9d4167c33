"""The attacker's own models, with the victim's row shape and classes."""

from __future__ import annotations

import numpy as np

from wire import BadInput, Card
from zoo.families import NETWORKS, Architecture
from zoo.network import Network


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
    """Returns the model family with this name, in its default size.

    Raises:
        BadInput: There is no such family.
    """
    if name not in NETWORKS:
        raise BadInput(f"there is no family {name!r}; expected one of {', '.join(NETWORKS)}")
    return NETWORKS[name]()


def new_seed(rng: np.random.Generator) -> int:
    """Draws a seed for a network or its training."""
    return int(rng.integers(2**31))
