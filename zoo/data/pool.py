"""Rows with their labels, and their file format."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import orjson
from pydantic import TypeAdapter, ValidationError

from wire import Array, BadInput, Card, Feature, Labels
from wire.files import read_arrays
from wire.types import code_fault

MOST_CLASSES = 2**16


@dataclass(frozen=True, eq=False)
class Pool:
    """Rows in the model's units, with their labels and metadata.

    Attributes:
        x: Rows, ``(n, *input_shape)`` float32. Images have channels first and values in [0, 1]; categories are
            codes 0, 1, ... Texts are an ``(n,)`` array of str objects.
        y: Class indices, ``(n,)`` int64; None if unknown.
        class_names: Names of the classes, in the order of their indices; empty if unknown.
        missing: Whether a feature may be missing (NaN).
        features: The features of a table, in order; empty if they have no names.
    """

    x: Array
    y: Labels | None = None
    class_names: tuple[str, ...] = ()
    missing: bool = False
    features: tuple[Feature, ...] = ()

    def __post_init__(self) -> None:
        fault = _fault(self)
        if fault:
            raise ValueError(fault)

    def __len__(self) -> int:
        return len(self.x)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one row."""
        return self.x.shape[1:]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of rows, labels and all names, in hexadecimal."""
        digest = hashlib.sha256(repr((self.x.shape, self.y is None, self.class_names)).encode())
        if self.missing or self.features:
            digest.update(repr((self.missing, self.features)).encode())
        digest.update(_as_json(self.x.tolist()) if self.dtype == "BYTES" else np.ascontiguousarray(self.x).data)
        if self.y is not None:
            digest.update(np.ascontiguousarray(self.y).data)
        return digest.hexdigest()

    @property
    def dtype(self) -> str:
        """The protocol's datatype of the rows: ``FP32``, or ``BYTES`` for texts."""
        return "BYTES" if self.x.dtype == object else "FP32"

    @property
    def bounds(self) -> tuple[float | None, float | None]:
        """Bounds of a feature: 0 and 1 if all values lie between them, else None and None."""
        inside = self.dtype == "FP32" and self.x.size and np.nanmin(self.x) >= 0 and np.nanmax(self.x) <= 1
        return (0.0, 1.0) if inside else (None, None)

    def card(self) -> Card:
        """Returns the card that a model trained on these rows would have."""
        low, high = self.bounds
        return Card(
            "",
            self.input_shape,
            len(self.class_names),
            dtype=self.dtype,
            low=low,
            high=high,
            class_names=self.class_names,
            missing=self.missing,
            features=self._ranged(),
        )

    def _ranged(self) -> tuple[Feature, ...]:
        """Returns the features, the numeric ones with the range of their values."""

        def ranged(feature: Feature, values: Array) -> Feature:
            values = values[~np.isnan(values)]
            if feature.categories or not len(values):
                return feature
            return replace(feature, low=float(values.min()), high=float(values.max()))

        return tuple(ranged(feature, self.x[:, column]) for column, feature in enumerate(self.features))

    def take(self, indices: npt.ArrayLike | slice) -> Pool:
        """Returns the rows with these indices, in this order."""
        chosen = indices if isinstance(indices, slice) else np.asarray(indices)
        return replace(self, x=self.x[chosen], y=None if self.y is None else self.y[chosen])

    def against(self, others: Pool) -> Pool:
        """Returns the rows of both pools, labelled 0 for this pool and 1 for the other.

        Raises:
            BadInput: The pools differ in shape, datatype or features.
        """
        forms = [(pool.input_shape, pool.dtype, pool.missing, pool.features) for pool in (self, others)]
        if forms[0] != forms[1]:
            raise BadInput(f"rows {self.input_shape} and {others.input_shape} differ in shape or in features")
        y = np.repeat([0, 1], [len(self), len(others)])
        return replace(self, x=np.concatenate([self.x, others.x]), y=y, class_names=("own", "other"))

    def save(self, path: Path) -> None:
        """Writes the pool to an .npz file.

        Rows that are bytes divided by 255 are stored as bytes; texts and feature descriptions are stored as JSON.
        """
        arrays: dict[str, Array] = {"class_names": np.array(self.class_names, dtype=str)}
        if self.dtype == "BYTES":
            arrays["texts"] = np.frombuffer(_as_json(self.x.tolist()), np.uint8)
        else:
            arrays["x"] = _as_bytes(self.x)
        if self.y is not None:
            arrays["y"] = self.y
        if self.missing or self.features:
            table = {"missing": self.missing, "features": self.features}
            arrays["table"] = np.frombuffer(_as_json(table), np.uint8)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        with partial.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]  # numpy's stub mistakes the arrays for options
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> Pool:
        """Reads a pool from a file.

        Raises:
            BadInput: There is no such file, or it does not hold a pool.
        """
        arrays = read_arrays(path, "rows")
        if not arrays.keys() & {"x", "texts"}:
            raise BadInput(f'{path}: not a valid .npz file of rows: it has {sorted(arrays)}, but no "x"')
        names = arrays.get("class_names", np.array((), dtype=str))
        if names.dtype.kind != "U" or names.ndim != 1 or len(names) > MOST_CLASSES:
            raise BadInput(f'{path}: "class_names" must be a list of at most {MOST_CLASSES:,} strings')
        try:
            table = _TABLE.validate_json(arrays["table"].tobytes()) if "table" in arrays else _Table()
            if "texts" in arrays:
                x = texts(_TEXTS.validate_json(arrays["texts"].tobytes()))
            else:
                x = bytes_to_rows(arrays["x"]) if arrays["x"].dtype == np.uint8 else arrays["x"]
            return cls(x, arrays.get("y"), tuple(names.tolist()), table.missing, table.features)
        except ValidationError as error:
            raise BadInput(f"{path}: {error.errors()[0]['msg']}") from None
        except ValueError as error:
            raise BadInput(f"{path}: {error}") from None


@dataclass(frozen=True)
class _Table:
    missing: bool = False
    features: tuple[Feature, ...] = ()


_TABLE, _TEXTS = TypeAdapter(_Table), TypeAdapter(list[str])


def _as_json(value: object) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError as error:
        raise BadInput(f"texts must be Unicode: {error}") from None


def texts(strings: Sequence[str]) -> Array:
    """Makes rows of texts, ``(n,)`` str objects."""
    x = np.empty(len(strings), dtype=object)
    x[:] = strings
    return x


def bytes_to_rows(x: Array) -> Array:
    """Scales bytes to float32 between 0 and 1."""
    rows: Array = np.divide(x, np.float32(255), dtype=np.float32)  # without a copy in between
    return rows


def _as_bytes(x: Array) -> Array:
    """Returns the bytes from which the rows were scaled, or the rows unchanged if they were not."""
    if x.size and x.min() >= 0 and x.max() <= 1:
        whole = np.rint(x * np.float32(255)).astype(np.uint8)
        if np.array_equal(bytes_to_rows(whole), x):
            return whole
    return x


def _fault(pool: Pool) -> str | None:
    x, y, names = pool.x, pool.y, pool.class_names
    if pool.dtype == "BYTES":
        if x.ndim != 1 or not {*map(type, x)} <= {str} or pool.missing or pool.features:
            return f"texts must be (n,) strings without features, not {x.shape}"
    elif x.dtype != np.float32 or x.ndim < 2:
        return f"rows must be (n, *input_shape) float32, not {x.shape} {x.dtype}"
    elif not (np.isfinite(x) | (np.isnan(x) if pool.missing else False)).all():
        return "rows must be finite" + ", or NaN where a feature is missing" * pool.missing
    elif pool.features and x.shape[1:] != (len(pool.features),):
        return f"rows of {len(pool.features)} features must be (n, {len(pool.features)}), not {x.shape}"
    for column, feature in enumerate(pool.features):
        fault = code_fault(feature, x[:, column])
        if fault:
            return fault
    if y is None:
        return None
    if y.dtype != np.int64 or y.shape != x.shape[:1]:
        return f"labels must be ({len(x)},) int64, not {y.shape} {y.dtype}"
    if y.size and (y.min() < 0 or (names and y.max() >= len(names))):
        return f"labels lie between {y.min()} and {y.max()}, but there are {len(names) or 'no negative'} classes"
    return None
