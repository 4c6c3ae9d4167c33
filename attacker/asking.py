"""What an attacker needs of a victim before the first row is spent, and the first answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from wire import Answer, Array, BadInput, Card, Oracle, WireError
from zoo.data.pool import Pool
from zoo.families import NETWORKS, Architecture
from zoo.network import Network


class NothingAnswered(WireError):
    """Not a single row was answered, so that the attack has nothing to work with."""


def some(oracle: Oracle, x: Array) -> Answer:
    """Asks about rows for as long as there are answers to be had, which must be at least one.

    Args:
        oracle: The way to the victim.
        x: Rows, ``(n, *input_shape)``.

    Returns:
        The answer about the first ``m <= n`` rows, ``m`` at least 1.

    Raises:
        NothingAnswered: There was not one answer.
    """
    answer = oracle.collect(x)
    if not len(answer):
        raise NothingAnswered(
            f"not a single row was answered: {oracle.ended or 'there were no rows to ask about'}"
        )
    return answer


def fitting(path: Path, card: Card, *, labelled: bool = False) -> Pool:
    """Reads a file of rows to ask about, or to train on in the victim's stead.

    Args:
        path: The file.
        card: The victim's card.
        labelled: Whether the rows need their true labels.

    Raises:
        BadInput: The file is broken, or the victim would not take its rows.
    """
    pool = Pool.load(path)
    if not len(pool):
        raise BadInput(f"{path}: there are no rows in it")
    if pool.input_shape != card.input_shape:
        raise BadInput(f"{path}: its rows are {pool.input_shape}, but {card.model} takes {card.input_shape}")
    if pool.dtype != "FP32" or not card.dtype.startswith(("FP", "UINT8")):
        raise BadInput(
            f"{path}: its rows are {pool.dtype}, and {card.model} takes {card.dtype}; attacks ask in floats"
        )
    if np.isnan(pool.x).any():
        raise BadInput(f"{path}: features are missing in some of its rows, and no surrogate learns from those")
    low, high = bounds(card)
    if pool.x.min() < low or pool.x.max() > high:
        raise BadInput(
            f"{path}: its features lie between {pool.x.min():g} and {pool.x.max():g}, but {card.model} takes "
            f"{low:g} to {high:g}"
        )
    if labelled and pool.y is None:
        raise BadInput(f'{path}: its rows need their true labels ("y")')
    if labelled and pool.y is not None and pool.y.max() >= len(class_names(card)):
        raise BadInput(
            f"{path}: it has label {pool.y.max()}, but {card.model} has {len(class_names(card))} classes"
        )
    return pool


def bounds(card: Card) -> tuple[float, float]:
    """Returns the least and the greatest value of a feature, infinite where there is none."""
    return -np.inf if card.low is None else card.low, np.inf if card.high is None else card.high


def class_names(card: Card) -> tuple[str, ...]:
    """Returns the names of a victim's classes; their indices where it does not name them.

    Raises:
        BadInput: The server does not say how many classes there are.
    """
    if not card.class_names and card.classes < 1:
        raise BadInput(f"{card.model}: its server does not say how many classes it tells apart")
    return card.class_names or tuple(map(str, range(card.classes)))


def own_model(card: Card, family: Architecture, *, seed: int) -> Network:
    """Returns an untrained network of one's own that takes what a victim takes and tells its classes apart."""
    names = class_names(card)
    takes = Card(card.model, card.input_shape, len(names), low=card.low, high=card.high, class_names=names)
    return Network.untrained(family, takes, seed=seed)


def family_named(name: str) -> Architecture:
    """Returns the model family of a name, in its usual size.

    Raises:
        BadInput: There is no such family.
    """
    if name not in NETWORKS:
        raise BadInput(f"there is no family {name!r}, only {', '.join(NETWORKS)}")
    return NETWORKS[name]()


def new_seed(rng: np.random.Generator) -> int:
    """Draws a seed for a network or its training."""
    return int(rng.integers(2**31))
