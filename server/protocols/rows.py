"""Checks that all protocols share: everything is checked before the batcher and before the bill."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from wire import Array, Card, Malformed, Refused
from wire.tensors import DATATYPES, Tensor
from wire.types import code_fault

MOST_CHARACTERS = 16_384  # of one text


def request_id(message: dict[str, Any]) -> str | None:
    """Returns the id that a request carries, if any.

    Raises:
        Malformed: It is not a string of at most 256 characters.
    """
    given = message.get("id")
    if given is None or (isinstance(given, str) and len(given) <= 256):
        return given
    raise Malformed('"id" must be a string of at most 256 characters')


def expect_short(size: int, most: int) -> None:
    """Refuses more than ``most`` bytes of JSON (413).

    Parsing JSON blocks the event loop: some 10 ms for 1 MiB of numbers, and 250 ms if it is all brackets.
    """
    if size > most:
        raise Refused(
            f"{size} bytes of JSON; at most {most} are read: send fewer rows, or them as binary tensors",
            status=413,
        )


def too_many(rows: int, card: Card) -> Refused:
    """Returns the refusal of a request with too many rows."""
    return Refused(f"{rows} rows in one request; at most {card.max_rows} are answered", status=413)


def check(x: Array, card: Card) -> Array:
    """Checks rows against a card: shape, number, datatype, finiteness and range."""
    expected = f"({', '.join(map(str, ('n', *card.input_shape)))})"
    if x.shape[1:] != card.input_shape or x.ndim == 0 or len(x) == 0:
        raise Malformed(f"rows of shape {tuple(x.shape)}; expected {expected} with n from 1 to {card.max_rows}")
    if len(x) > card.max_rows:
        raise too_many(len(x), card)
    if x.dtype != DATATYPES[card.dtype]:
        raise Malformed(f"rows of datatype {Tensor('', x).datatype}; expected {card.dtype}")
    if card.dtype == "BYTES":
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
