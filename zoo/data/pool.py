"""Rows with their labels: the one file format for what a party holds."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from wire import Array, BadInput, Labels


@dataclass(frozen=True, eq=False)
class Pool:
    """Rows in the model's units, and what is known of them.

    Attributes:
        x: Rows, ``(n, *input_shape)`` float32; images have channels first and lie between 0 and 1.
        y: Class indices, ``(n,)`` int64; None where unknown.
        class_names: Names of the classes, in the order of their indices; empty where unknown.
    """

    x: Array
    y: Labels | None = None
    class_names: tuple[str, ...] = ()

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
        """SHA-256 of rows, labels and class names, in hexadecimal."""
        digest = hashlib.sha256(repr((self.x.shape, self.y is None, self.class_names)).encode())
        digest.update(np.ascontiguousarray(self.x).data)
        if self.y is not None:
            digest.update(np.ascontiguousarray(self.y).data)
        return digest.hexdigest()

    def take(self, indices: npt.ArrayLike | slice) -> Pool:
        """Returns the rows of these indices, in their order."""
        chosen = indices if isinstance(indices, slice) else np.asarray(indices)
        return Pool(self.x[chosen], None if self.y is None else self.y[chosen], self.class_names)

    def save(self, path: Path) -> None:
        """Writes the pool to a file (npz); rows that are bytes divided by 255 are kept as those bytes."""
        arrays: dict[str, Array] = {"x": _as_bytes(self.x), "class_names": np.array(self.class_names, dtype=str)}
        if self.y is not None:
            arrays["y"] = self.y
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        with partial.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]  # numpy's stub takes its options among the arrays
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> Pool:
        """Reads a pool from a file.

        Raises:
            BadInput: There is no such file, or it does not hold a pool.
        """
        try:
            with path.open("rb") as file:
                arrays = dict(np.load(file, allow_pickle=False))
        except FileNotFoundError:
            raise BadInput(f"{path}: no such file") from None
        except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
            why = getattr(error, "strerror", None) or "it is none, or a broken one"  # numpy's words are of pickles
            raise BadInput(f"{path}: not a file of rows (npz): {why}") from None
        if "x" not in arrays:
            raise BadInput(f'{path}: not a file of rows: it has {sorted(arrays)}, and no "x"')
        x, names = arrays["x"], arrays.get("class_names", np.array((), dtype=str))
        if names.dtype.kind != "U" or names.ndim != 1:
            raise BadInput(f'{path}: "class_names" must be a list of strings')
        try:
            return cls(bytes_to_rows(x) if x.dtype == np.uint8 else x, arrays.get("y"), tuple(names.tolist()))
        except ValueError as error:
            raise BadInput(f"{path}: {error}") from None


def bytes_to_rows(x: Array) -> Array:
    """Scales bytes to float32 between 0 and 1."""
    return x.astype(np.float32) / np.float32(255)


def _as_bytes(x: Array) -> Array:
    """Returns the bytes of which the rows were made, or the rows themselves if they were not."""
    if x.size and x.min() >= 0 and x.max() <= 1:
        whole = np.rint(x * np.float32(255)).astype(np.uint8)
        if np.array_equal(bytes_to_rows(whole), x):
            return whole
    return x


def _fault(pool: Pool) -> str | None:
    x, y, names = pool.x, pool.y, pool.class_names
    if x.dtype != np.float32 or x.ndim < 2:
        return f"rows must be (n, *input_shape) float32, not {x.shape} {x.dtype}"
    if not np.isfinite(x).all():
        return "rows must be finite"
    if y is None:
        return None
    if y.dtype != np.int64 or y.shape != x.shape[:1]:
        return f"labels must be ({len(x)},) int64, not {y.shape} {y.dtype}"
    if y.size and (y.min() < 0 or (names and y.max() >= len(names))):
        return f"labels lie between {y.min()} and {y.max()}, but there are {len(names) or 'no negative'} classes"
    return None
