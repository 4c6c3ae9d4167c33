"""Tensors of the Open Inference Protocol v2, in JSON and with the binary tensor data extension.

A message is a JSON object with its tensors under ``inputs`` (a request) or ``outputs`` (a response). With the
binary extension, the raw bytes of some tensors follow the object, little-endian and row-major, in the order in
which the object names them; ``Inference-Header-Content-Length`` then gives the length of the object. A tensor of
texts has datatype BYTES: strings in JSON; in raw form, each string is its length in four bytes, then its UTF-8.

Source: Open Inference Protocol v2, "Inference" and "Binary Tensor Data Extension" (KServe).
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property, lru_cache
from itertools import chain
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

import msgspec
import numpy as np
import orjson

from wire.errors import Malformed
from wire.texts import as_texts, raw_texts, read_raw_texts
from wire.types import Array

_RAGGED = "the rows differ in length; nested lists must form a full array"
HEADER_LENGTH = "Inference-Header-Content-Length"

DATATYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BYTES": np.dtype(object),
}
_NAMES = {dtype: name for name, dtype in DATATYPES.items()}

_CODES = dict(zip(("u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8"), "BHIQbhiq", strict=True))  # of array.array

Kind = Literal["inputs", "outputs"]
T = TypeVar("T")
_Shape = Annotated[list[Annotated[int, msgspec.Meta(ge=0, lt=2**31)]], msgspec.Meta(max_length=8)]


class Tensor(NamedTuple):
    """A named array, sent as raw bytes if ``binary`` is true."""

    name: str
    array: Array
    binary: bool = True

    @property
    def datatype(self) -> str:
        """The protocol's name for the array's type."""
        return _NAMES[self.array.dtype]


def pack(kind: Kind, tensors: Sequence[Tensor], fields: Mapping[str, Any]) -> tuple[bytes, int | None]:
    """Writes a message.

    Args:
        kind: Whether the tensors are inputs or outputs.
        tensors: The tensors, in order.
        fields: The message's other members.

    Returns:
        The body, and the length of its JSON part if raw bytes follow it, else None.
    """
    entries: list[dict[str, Any] | orjson.Fragment] = []
    blobs: list[bytes] = []
    for tensor in tensors:
        values = tensor.array
        if tensor.binary:
            blobs.append(raw_texts(values) if values.dtype == object else values.tobytes())
            entries.append(_binary_entry(tensor.name, values.shape, tensor.datatype, len(blobs[-1])))
            continue
        entry: dict[str, Any] = {"name": tensor.name, "shape": values.shape, "datatype": tensor.datatype}
        if values.dtype == object:
            entry["data"] = values.reshape(-1).tolist()
        else:
            entry["data"] = np.ascontiguousarray(values.reshape(-1))  # orjson writes NaN as null
        entries.append(entry)
    head = orjson.dumps({**fields, kind: entries}, option=orjson.OPT_SERIALIZE_NUMPY)
    return b"".join([head, *blobs]), len(head) if blobs else None


@lru_cache(1024)  # a server writes the same again and again
def _binary_entry(name: str, shape: tuple[int, ...], datatype: str, size: int) -> orjson.Fragment:
    """Returns the JSON of a tensor whose raw bytes follow."""
    parameters = {"binary_data_size": size}
    return orjson.Fragment(
        orjson.dumps({"name": name, "shape": shape, "datatype": datatype, "parameters": parameters})
    )


class TensorHead(msgspec.Struct, dict=True):
    """The description of a tensor in a message's JSON; its values are not read yet.

    Attributes:
        name: The tensor's name.
        shape: Its shape.
        datatype: The protocol's name for its type.
        data: Its values in JSON; empty if they are raw bytes behind the JSON.
        parameters: Parameters of extensions, each in JSON.
    """

    name: str
    shape: _Shape
    datatype: str
    data: msgspec.Raw = msgspec.Raw()
    parameters: dict[str, msgspec.Raw] | None = None

    @cached_property
    def size(self) -> int | None:
        """How many raw bytes hold the values; None if they are JSON.

        Raises:
            Malformed: The datatype is unknown, or the shape takes another number of bytes.
        """
        dtype, count = self.dtype, math.prod(self.shape)
        given = bytes((self.parameters or {}).get("binary_data_size", b"null"))
        if given == b"null":
            return None
        size = int(given) if given.isdigit() and len(given) < 16 else -1
        least = count * (4 if dtype.kind == "O" else dtype.itemsize)
        if size < least or (size > least and dtype.kind != "O"):
            takes = f"{count} strings take at least" if dtype.kind == "O" else f"{self.datatype} takes"
            raise Malformed(
                f'tensor "{self.name}": binary_data_size is {given[:20].decode("latin-1")}, but shape '
                f"{self.shape} of {takes} {least} bytes"
            )
        return size

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """The array's type; raises :class:`Malformed` if the datatype is unknown."""
        if self.datatype not in DATATYPES:
            raise Malformed(
                f'tensor "{self.name}": datatype {self.datatype[:20]!r} is not one of {", ".join(DATATYPES)}'
            )
        return DATATYPES[self.datatype]

    def read(self, body: bytes, at: int) -> tuple[Tensor, int]:
        """Reads the values.

        Args:
            body: The message's body.
            at: Where the tensor's raw bytes would begin.

        Returns:
            The tensor, and where the next tensor's raw bytes would begin.

        Raises:
            Malformed: The values are not those that the shape and the datatype promise.
        """
        return Tensor(self.name, self.values(body, at), self.size is not None), at + (self.size or 0)

    def values(self, body: bytes, at: int) -> Array:
        """Reads the values as an array; see :meth:`read`."""
        size = self.size
        if size is None:
            return self._read_json(math.prod(self.shape))
        if at + size > len(body):
            raise Malformed(
                f'tensor "{self.name}": binary_data_size is {size}, but {len(body) - at} are left in the body'
            )
        if self.dtype.kind == "O":
            texts = read_raw_texts(self.name, body[at : at + size], math.prod(self.shape))
            return texts.reshape(self.shape)
        return np.ndarray(self.shape, self.dtype, body, at)

    def _read_json(self, count: int) -> Array:
        if "shared_memory_region" in (self.parameters or {}):
            raise Malformed(f'tensor "{self.name}": shared memory is not offered; send "data" or binary data')
        data = bytes(self.data)
        if not data:
            raise Malformed(f'tensor "{self.name}" has neither "data" nor "parameters.binary_data_size"')
        values = read_values(data, self.dtype, self.shape)
        if values.size != count:
            raise Malformed(
                f'tensor "{self.name}": shape {self.shape} takes {count} values, "data" has {values.size}'
            )
        return values.reshape(self.shape)


def unpack(kind: Kind, body: bytes, header_length: int | None) -> tuple[dict[str, Any], list[Tensor]]:
    """Reads a message.

    Args:
        kind: Whether to expect inputs or outputs.
        body: The whole body.
        header_length: Length of the JSON part in bytes; None if the body is JSON alone.

    Returns:
        The other members of the JSON object, and the tensors in its order. A JSON ``null`` reads as NaN.

    Raises:
        Malformed: The body is not a valid message.
    """
    if header_length is not None and not 0 <= header_length <= len(body):
        raise Malformed(f"{HEADER_LENGTH} is {header_length}, but the body has {len(body)} bytes")
    members = decode(_MEMBERS, body if header_length is None else body[:header_length])
    heads = decode(_HEADS, members.pop(kind, b"[]"), f'"{kind}"')
    if not heads:
        raise Malformed(f'"{kind}" must be a list of at least one tensor')
    at = len(body) if header_length is None else header_length
    tensors = []
    for head in heads:
        tensor, at = head.read(body, at)
        tensors.append(tensor)
    if at != len(body):
        raise Malformed(f"the tensors take {at} bytes of a body of {len(body)}")
    return {name: orjson.loads(memoryview(value)) for name, value in members.items()}, tensors


def decode(decoder: msgspec.json.Decoder[T], data: Any, what: str = "the message") -> T:
    """Reads JSON of a given form; what the form does not ask for is skipped, not built.

    Args:
        decoder: The form.
        data: The JSON.
        what: What it is, for the error.

    Raises:
        Malformed: It is not JSON, or not of this form.
    """
    try:
        return decoder.decode(data)
    except msgspec.ValidationError as error:
        raise Malformed(f"{what}: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Malformed(f"invalid JSON: {error}") from None
    except RecursionError:
        raise Malformed(f"invalid JSON: {what} is nested too deeply") from None


def read_json(body: bytes) -> dict[str, Any]:
    """Reads a JSON object, or raises :class:`Malformed`."""
    try:
        message = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Malformed(f"invalid JSON: {error}") from None
    if not isinstance(message, dict):
        raise Malformed(f"expected a JSON object, not {type(message).__name__}")
    return message


def read_values(data: bytes, dtype: np.dtype[Any], shape: Sequence[int]) -> Array:
    """Makes an array from JSON: lists of numbers, flat or nested as a shape, or a flat list of strings.

    ``null`` becomes NaN. Commas and brackets tell how many values and lists there are, so that lists which do not
    have this shape cost little.

    Returns:
        The array, of the lists' own shape.

    Raises:
        Malformed: The lists are ragged, hold a value of another type, or do not have this shape.
    """
    if dtype.kind == "O":
        return as_texts(decode(_STRINGS, data, "data, a list of strings"))
    if b'"' in data or b"{" in data or (dtype.kind == "f" and (b"t" in data or b"s" in data)):  # true or false
        raise Malformed(_expected(dtype))
    count = math.prod(shape)
    if data.count(b",") != max(count - 1, 0):
        raise Malformed(f"shape {list(shape)} takes {count} values, but data has {data.count(b',') + 1}")
    if data.count(b"[") > 1 + sum(math.prod(shape[:axis]) for axis in range(1, len(shape))):
        raise Malformed(f"data must be a flat list, or lists nested as shape {list(shape)}")
    try:
        values = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise Malformed(f"invalid JSON: {error}") from None
    if type(values) is not list:
        raise Malformed("data must be a list")
    flat, widths = _flat(values)
    return _array(flat, dtype).reshape(widths)


def _flat(values: list[Any]) -> tuple[list[Any], list[int]]:
    """Returns the values in nested lists of numbers, and the lists' shape."""
    widths = [len(values)]
    while values and type(values[0]) is list:
        try:
            (width,) = set(map(len, values))
        except (TypeError, ValueError):
            raise Malformed(_RAGGED) from None
        widths.append(width)
        values = list(chain.from_iterable(values))
    return values, widths


def _array(flat: list[Any], dtype: np.dtype[Any]) -> Array:
    """Returns an array of numbers, of numbers and null where they are floats, or of booleans."""
    with np.errstate(over="ignore"):  # an overflow becomes inf, which callers reject
        if dtype.kind == "f":
            with suppress(TypeError):  # there is a null
                return np.frombuffer(array("d", flat)).astype(dtype)
            if list in set(map(type, flat)):
                raise Malformed(_RAGGED)
            return np.array(flat, np.float64).astype(dtype)
        if not set(map(type, flat)) <= {bool if dtype.kind == "b" else int}:
            raise Malformed(_expected(dtype))
        if dtype.kind == "b":
            return np.array(flat, dtype)
        try:
            return np.frombuffer(array(_CODES[dtype.str[1:]], flat), dtype)
        except OverflowError:
            info = np.iinfo(dtype)
            raise Malformed(f"data must lie between {info.min} and {info.max} for {_NAMES[dtype]}") from None


def _expected(dtype: np.dtype[Any]) -> str:
    return f"data must hold {'numbers' if dtype.kind == 'f' else _NAMES[dtype]} only"


_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_HEADS = msgspec.json.Decoder(list[TensorHead])
_STRINGS: msgspec.json.Decoder[list[str]] = msgspec.json.Decoder(list[str])
