"""Checks that all protocols share, of all but the values of rows; see :mod:`server.deployment.values`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import msgspec

from server.http.body import Body
from wire import Card, Malformed, Refused
from wire.tensors import DATATYPES

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
