"""Converts detector states to bytes and back.

A state is a dataclass with annotated fields of numbers, strings, booleans, None, arrays, and lists, tuples, dicts,
named tuples and dataclasses of these. Arrays become members of an ``.npz`` file, and the rest its member ``head``,
in JSON. Equal states give equal bytes, and nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import io
import json
import types
import typing
import zipfile
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np

from wire import Array

S = TypeVar("S")
_PLAIN = (bool, int, float, str)


def dump(state: Any) -> bytes:
    """Returns a state's bytes.

    Raises:
        TypeError: A field has a type that a snapshot cannot hold.
    """
    arrays: dict[str, Any] = {}
    head = {"schema": schema(type(state)), "state": _encoded(type(state), state, arrays)}
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **arrays, head=np.frombuffer(json.dumps(head).encode(), np.uint8))
    return file.getvalue()


def load(blank: S, data: bytes) -> S:
    """Reads a state from the bytes returned by :func:`dump`.

    Args:
        blank: Any state of the expected class, such as the initial state.
        data: The bytes.

    Raises:
        ValueError: The bytes are invalid, or belong to a class with other fields.
    """
    cls = type(blank)
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            arrays = dict(file)
        head = json.loads(arrays["head"].tobytes())
        if head["schema"] == schema(cls):
            return _decoded(cls, head["state"], arrays)  # type: ignore[no-any-return]
    except (zipfile.BadZipFile, KeyError, RuntimeError, TypeError, ValueError, EOFError, OSError) as error:
        raise ValueError(f"not a valid snapshot of {cls.__module__}.{cls.__qualname__}") from error
    raise ValueError(
        f"the snapshot has schema {head['schema']}; expected {schema(cls)}, that of {cls.__qualname__}"
    )


def schema(cls: type) -> str:
    """Returns a fingerprint of a state's class: the names and types of its fields, recursively."""
    return hashlib.sha256(_described(cls).encode()).hexdigest()[:16]


@lru_cache(64)
def _fields(hint: Any) -> dict[str, Any] | None:
    """Returns the names and types of the fields of a dataclass or named tuple; None for other types."""
    named = getattr(hint, "__dataclass_fields__", None) or getattr(hint, "_fields", None)
    hints = typing.get_type_hints(hint) if named else {}
    return {name: hints[name] for name in named} if named else None


def _parts(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """Returns a type's origin and arguments; the origin of an optional type is ``types.UnionType``."""
    origin = typing.get_origin(hint) or hint
    args = tuple(arg for arg in typing.get_args(hint) if arg not in (Ellipsis, types.NoneType))
    return (types.UnionType if origin is typing.Union else origin), args


def _described(hint: Any) -> str:
    if (fields := _fields(hint)) is not None:
        return f"({', '.join(f'{name}: {_described(of)}' for name, of in fields.items())})"
    origin, args = _parts(hint)
    if origin in _PLAIN or origin is np.ndarray:
        return str(origin.__name__)
    if len(args) == {list: 1, tuple: 1, types.UnionType: 1, dict: 2}.get(origin):
        return f"{origin.__name__}[{', '.join(map(_described, args))}]"
    raise TypeError(f"a snapshot cannot hold {hint}")


def _encoded(hint: Any, value: Any, arrays: dict[str, Any]) -> Any:
    if (fields := _fields(hint)) is not None:
        return [_encoded(of, getattr(value, name), arrays) for name, of in fields.items()]
    origin, args = _parts(hint)
    if value is None or origin in _PLAIN:
        return value
    if origin is np.ndarray:
        arrays[name := str(len(arrays))] = value
        return name
    if origin is dict:
        return [[key, _encoded(args[1], of, arrays)] for key, of in sorted(value.items())]
    if origin is types.UnionType:
        return _encoded(args[0], value, arrays)
    return [_encoded(args[0], of, arrays) for of in value]


def _decoded(hint: Any, value: Any, arrays: Mapping[str, Array]) -> Any:
    if (fields := _fields(hint)) is not None:
        return hint(*(_decoded(of, part, arrays) for of, part in zip(fields.values(), value, strict=True)))
    origin, args = _parts(hint)
    if origin is types.UnionType:
        return None if value is None else _decoded(args[0], value, arrays)
    if origin in _PLAIN:
        if type(value) is not origin:
            raise TypeError(f"{value!r} is not of type {origin.__name__}")
        return value
    if origin is np.ndarray:
        return arrays[value].copy()  # owns its memory, so that it can grow in place
    if origin is dict:
        return {key: _decoded(args[1], of, arrays) for key, of in value}
    return origin(_decoded(args[0], of, arrays) for of in value)
