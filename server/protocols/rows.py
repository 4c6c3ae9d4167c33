"""Checks that all protocols share: everything is checked before the batcher and before the bill."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import msgspec
import numpy as np

from server.http.body import Body
from wire import Array, Card, Malformed, Refused
from wire.tensors import DATATYPES
from wire.types import code_fault

MOST_CHARACTERS = 16_384  # of one text
MOST_TEXT = 2**22  # bytes of all texts of a request, in binary

RequestId = Annotated[str, msgspec.Meta(max_length=256)] | None
"""The id that a request carries, if any."""


def largest(card: Card, most_json: int) -> int:
    """Returns how many bytes the largest request about a model can have: its JSON, and all its rows in binary."""
    if card.dtype == "BYTES":
        return most_json + MOST_TEXT
    return most_json + card.max_rows * row_size(card)


def row_size(card: Card) -> int:
    """Returns how many bytes a row of numbers has in binary."""
    return math.prod(card.input_shape) * DATATYPES[card.dtype].itemsize


def read_json(body: Body, most: int) -> bytes:
    """Reads a body that is JSON alone.

    Raises:
        Refused: It has more than ``most`` bytes (413).
        Malformed: The compressed data is broken.
    """
    expect_short(len(body.received), most)
    return body.read(most)


def expect_short(size: int, most: int) -> None:
    """Refuses more than ``most`` bytes of JSON (413): reading 1 MiB of numbers takes some 30 ms."""
    if size > most:
        raise Refused(
            f"{size} bytes of JSON; at most {most} are read: send fewer rows, or them as binary tensors",
            status=413,
        )


def expect_rows(shape: Sequence[int], datatype: str, card: Card) -> None:
    """Refuses rows that are not the model's by their shape, number and datatype, before any value is read."""
    expected = f"({', '.join(map(str, ('n', *card.input_shape)))})"
    if not shape or tuple(shape[1:]) != card.input_shape or shape[0] == 0:
        raise Malformed(f"rows of shape {tuple(shape)}; expected {expected} with n from 1 to {card.max_rows}")
    if shape[0] > card.max_rows:
        raise Refused(f"{shape[0]} rows in one request; at most {card.max_rows} are answered", status=413)
    if datatype != card.dtype:
        raise Malformed(f"rows of datatype {datatype[:20]}; expected {card.dtype}")


def expect_numbers(data: bytes, card: Card) -> None:
    """Refuses null in JSON where no value may be missing: it takes long to read."""
    if not card.missing and card.dtype.startswith("FP") and b"null" in data:
        raise Malformed("a row holds null; every value must be a finite number")


def expect_short_texts(size: int) -> None:
    """Refuses more than :data:`MOST_TEXT` bytes of texts (413)."""
    if size > MOST_TEXT:
        raise Refused(f"texts of {size} bytes; at most {MOST_TEXT} are read: send fewer rows", status=413)


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
