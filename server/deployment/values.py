"""Checks the values of rows, which are checked before the batcher and before the bill."""

from __future__ import annotations

import math

import numpy as np

from wire import Array, Card, Malformed
from wire.types import code_fault

MOST_CHARACTERS = 16_384  # of one text


def check(x: Array, card: Card) -> Array:
    """Checks the values of rows against a card: finiteness and range, or the length of texts."""
    if card.dtype == "BYTES":
        if card.embedding:
            raise Malformed("the model embeds texts, whose tokens are billed: ask POST /v1/embeddings")
        longest = max(map(len, x))
        if longest > MOST_CHARACTERS:
            raise Malformed(f"a text has {longest} characters; at most {MOST_CHARACTERS} are read")
        return x
    # The least and the greatest value reveal NaN as well, or ignore it where features may be missing.
    least, most = (np.fmin, np.fmax) if card.missing else (np.minimum, np.maximum)
    low, high = float(least.reduce(x, axis=None)), float(most.reduce(x, axis=None))
    if not (math.isfinite(low) and math.isfinite(high)):
        _expect_finite(x, card)
    if (card.low is not None and low < card.low) or (card.high is not None and high > card.high):
        raise Malformed(f"values from {low:g} to {high:g}; expected values from {card.low} to {card.high}")
    for column, feature in enumerate(card.features):
        fault = code_fault(feature, x[:, column])
        if fault:
            raise Malformed(fault)
    return x


def _expect_finite(x: Array, card: Card) -> None:
    finite = ~np.isinf(x) if card.missing else np.isfinite(x)
    if not finite.all():
        row = int(np.argwhere(~finite)[0][0])
        allowed = " or missing (null, NaN)" if card.missing else ""
        raise Malformed(f"row {row} holds {x[row][~finite[row]][0]}; every value must be a finite number{allowed}")
