"""Checks whether rows fit a model: their type, shape, range and labels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from wire.errors import BadInput, Malformed
from wire.types import Array, Card, Feature, Labels


def bounds(card: Card) -> tuple[float, float]:
    """Returns the lower and upper bound of a feature, infinite where the card has none."""
    return -np.inf if card.low is None else card.low, np.inf if card.high is None else card.high


def ranges(card: Card) -> tuple[Array, Array]:
    """Returns the least and the greatest value of each feature, ``input_shape`` each.

    A feature's own range, in the training rows, goes before the bounds of all features; categories are codes.

    Raises:
        BadInput: The range of a feature is not known.
    """
    ends = [np.full(card.input_shape, bound, np.float64) for bound in bounds(card)]
    for column, feature in enumerate(card.features):
        own = (0, len(feature.categories) - 1) if feature.categories else (feature.low, feature.high)
        for end, value in zip(ends, own, strict=True):
            end[column] = end[column] if value is None else value
    if not np.isfinite(ends).all():
        raise BadInput(
            f"{card.model} tells no finite bounds of some features, which uniform draws and searches need; give "
            "--range, or a pool of rows, whose range is taken"
        )
    return ends[0], ends[1]


def with_ranges(card: Card, x: Array) -> Card:
    """Returns a card on which features without a range have that of the rows ``x``, ``(n, *input_shape)``."""
    if card.dtype == "BYTES" or not len(x) or np.isfinite(bounds(card)).all():
        return card
    if len(card.input_shape) != 1:
        return replace(card, low=float(np.nanmin(x)), high=float(np.nanmax(x)))
    known = card.features or tuple(Feature(str(column)) for column in range(card.input_shape[0]))
    return replace(card, features=tuple(_with_range(*pair) for pair in zip(known, x.T, strict=True)))


def _with_range(feature: Feature, values: Array) -> Feature:
    values = values[~np.isnan(values)]
    if feature.categories or feature.low is not None or not len(values):
        return feature
    return replace(feature, low=float(values.min()), high=float(values.max()))


def uniform(card: Card, n: int, rng: np.random.Generator) -> Array:
    """Draws rows whose features are uniform over their range, ``(n, *input_shape)`` float32.

    Raises:
        BadInput: The range of a feature is not known.
    """
    rows = rng.uniform(*ranges(card), (n, *card.input_shape)).astype(np.float32)
    for column, feature in enumerate(card.features):
        if feature.categories:
            rows[:, column] = rng.integers(len(feature.categories), size=n)
    return rows


def misfit(x: Array, card: Card) -> str | None:
    """Describes why a model cannot take these rows, or returns None if it can.

    Args:
        x: Rows, ``(n, *input_shape)`` float32, or ``(n,)`` str objects.
        card: The model's card.
    """
    model = card.model or "the model"
    if not len(x):
        return "there are no rows"
    texts = x.dtype == object
    if texts != (card.dtype == "BYTES"):
        return f"the rows are {'texts' if texts else 'numbers'}, but {model} takes {card.dtype}"
    if x.shape[1:] != card.input_shape:
        return f"the rows have shape {x.shape[1:]}, but {model} takes {card.input_shape}"
    if texts:
        return None
    if np.isnan(x).any() and not card.missing:
        return f"features are missing in some rows, but {model} needs them all"
    (least, most), (low, high) = (np.nanmin(x), np.nanmax(x)), bounds(card)
    if least < low or most > high:
        return f"the features lie between {least:g} and {most:g}, but {model} takes {low:g} to {high:g}"
    return None


def label_misfit(y: Labels | None, card: Card) -> str | None:
    """Describes why labels, ``(n,)``, do not fit a model's classes, or returns None if they do."""
    if y is None:
        return 'the rows have no labels ("y")'
    classes = len(card.class_names) or card.classes
    if classes and len(y) and y.max() >= classes:
        return f"the largest label is {y.max()}, but {card.model or 'the model'} has {classes} classes"
    return None


def as_bytes(x: Array) -> Array:
    """Returns rows with values from 0 to 1 as bytes from 0 to 255.

    Raises:
        Malformed: A value is not a multiple of 1/255 between 0 and 1.
    """
    if x.dtype == np.uint8:
        return np.ascontiguousarray(x)
    whole = np.rint(255.0 * x)
    fitting = (np.abs(255.0 * x - whole) < 1e-3) & (whole >= 0) & (whole <= 255)  # tolerates float rounding
    if not fitting.all():
        row = int(np.argwhere(~fitting)[0][0])
        raise Malformed(
            f"row {row} holds {x[row][~fitting[row]][0]:g}, but the model takes bytes: expected multiples of 1/255"
        )
    return np.ascontiguousarray(whole, np.uint8)
