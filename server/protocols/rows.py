"""From a request's body to rows: everything is checked here, before the batcher and before the bill."""

from __future__ import annotations

import base64
import binascii
import io
import math
from typing import Any

import numpy as np
from PIL import Image

from wire import Array, Card, Malformed, Refused
from wire.tensors import DATATYPES, HEADER_LENGTH, Tensor, read_json, read_values, unpack
from wire.types import code_fault

MOST_CHARACTERS = 16_384  # of one text


def read_request(length: bytes | None, body: bytes, card: Card, most_json: int) -> tuple[dict[str, Any], Array]:
    """Reads a request of the Open Inference Protocol.

    Args:
        length: The header that tells how long the JSON part is, if there is one. If it is 0, the body is one row's
            bytes and nothing else, and the outputs are binary (the binary extension's raw request).
        body: The body.
        card: What the asked model says of itself.
        most_json: Most bytes of JSON.

    Returns:
        Its JSON object, and its rows ``(n, *input_shape)``.

    Raises:
        Malformed: It is not such a request, or its rows are not the model's.
        Refused: It has too many rows, or too much JSON (413).
    """
    if length is not None and not (length.isdigit() and len(length) <= 12):
        raise Malformed(f"{HEADER_LENGTH} must be a number of bytes, not {length[:20].decode('latin-1')!r}")
    if length is not None and not int(length):
        return {"parameters": {"binary_data_output": True}}, check(_raw(body, card), card)
    _expect_short(len(body) if length is None else int(length), most_json)
    message, tensors = unpack("inputs", body, None if length is None else int(length))
    names = [tensor.name for tensor in tensors]
    if names != [card.input_name]:
        raise Malformed(f'expected the one input "{card.input_name}", not {", ".join(names)}')
    return message, check(tensors[0].array, card)


def read_instances(body: bytes, card: Card, most_json: int) -> tuple[dict[str, Any], Array]:
    """Reads a request of the V1 protocol: ``{"instances": [...]}``.

    An instance is nested lists of numbers, a string where the model takes texts, or ``{"b64": "<PNG or JPEG>"}``.

    They may also be called ``inputs``. Returns and raises as :func:`read_request` does.
    """
    _expect_short(len(body), most_json)
    message = read_json(body)
    instances = message.get("instances", message.get("inputs"))
    if not isinstance(instances, list) or not instances:
        raise Malformed('"instances" must be a list of at least one row')
    if len(instances) > card.max_rows:
        raise _too_many(len(instances), card)
    if all(isinstance(instance, dict) for instance in instances):
        return message, check(np.stack([_image(instance, card) for instance in instances]), card)
    return message, check(read_values(instances, DATATYPES[card.dtype]), card)


def request_id(message: dict[str, Any]) -> str | None:
    """Returns the id that a request carries, if any.

    Raises:
        Malformed: It is no string of at most 256 characters.
    """
    given = message.get("id")
    if given is None or (isinstance(given, str) and len(given) <= 256):
        return given
    raise Malformed('"id" must be a string of at most 256 characters')


def check(x: Array, card: Card) -> Array:
    """Checks rows against a card: shape, number, datatype, finiteness and range."""
    expected = f"({', '.join(map(str, ('n', *card.input_shape)))})"
    if x.shape[1:] != card.input_shape or x.ndim == 0 or len(x) == 0:
        raise Malformed(f"rows of shape {tuple(x.shape)}; expected {expected} with n from 1 to {card.max_rows}")
    if len(x) > card.max_rows:
        raise _too_many(len(x), card)
    if x.dtype != DATATYPES[card.dtype]:
        raise Malformed(f"rows of datatype {Tensor('', x).datatype}; expected {card.dtype}")
    if card.dtype == "BYTES":
        longest = max(map(len, x))
        if longest > MOST_CHARACTERS:
            raise Malformed(f"a text has {longest} characters; at most {MOST_CHARACTERS} are read")
        return x
    # The least and the greatest value tell of NaN as well, or else pass it over where features may be missing.
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


def _raw(body: bytes, card: Card) -> Array:
    """Reads one row's bytes, or one text's UTF-8."""
    dtype = DATATYPES[card.dtype]
    if card.dtype == "BYTES":
        try:
            return read_values([body.decode()], dtype)
        except UnicodeDecodeError as error:
            raise Malformed(f"the text is no UTF-8: {error.reason}") from None
    size = math.prod(card.input_shape) * dtype.itemsize
    if len(body) != size:
        raise Malformed(
            f"{len(body)} bytes without JSON; one row, {card.input_shape} of {card.dtype}, takes {size}"
        )
    return np.frombuffer(body, dtype).reshape(1, *card.input_shape)


def _expect_short(size: int, most: int) -> None:
    # While JSON is parsed everybody waits: some 10 ms for 1 MiB of numbers, and 250 ms if it is all brackets.
    if size > most:
        raise Refused(
            f"{size} bytes of JSON; at most {most} are read: send fewer rows, or them as binary tensors",
            status=413,
        )


def _too_many(rows: int, card: Card) -> Refused:
    return Refused(f"{rows} rows in one request; at most {card.max_rows} are answered", status=413)


def _image(instance: dict[str, Any], card: Card) -> Array:
    if set(instance) != {"b64"} or not isinstance(instance["b64"], str):
        raise Malformed('an instance must be nested lists of numbers or {"b64": "<PNG or JPEG>"}')
    if len(card.input_shape) != 3 or card.input_shape[0] not in (1, 3):
        raise Malformed(f"the model takes rows of shape {card.input_shape}, which are no images")
    channels, height, width = card.input_shape
    try:
        image = Image.open(io.BytesIO(base64.b64decode(instance["b64"], validate=True)), formats=("PNG", "JPEG"))
        if image.size != (width, height):  # before anything is decompressed
            raise Malformed(f"an image of {image.width}x{image.height} pixels; expected {width}x{height}")
        pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"), np.float32)
    except (binascii.Error, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise Malformed(f"b64 is not a PNG or JPEG image: {error}") from None
    low, high = card.low or 0.0, 1.0 if card.high is None else card.high
    scaled = low + pixels.reshape(height, width, channels).transpose(2, 0, 1) * (high - low) / 255
    return scaled.astype(DATATYPES[card.dtype])
