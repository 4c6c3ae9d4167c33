"""Distances of rows to a reference: a set of harmless rows that no account sends."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from defenses.microbatch import MicroBatch
from defenses.monitoring.nearest import Rows, nearest, pixels
from wire import Array, BadInput, Labels
from wire.files import read_arrays

TAIL = 4  # bytes at the end of a row's features, which hold its squared distance to the reference
_MOST = 1024  # maximum number of rows in a product that several queries share
_PLAIN = 2**28  # bytes of rows times reference rows, below which a thread would take longer than the product


class Reference:
    """The reference rows, in a form for nearest-neighbour search.

    Rows are compared as bytes. If all reference values lie in [0, 1], they are scaled as pixels. Otherwise each
    feature is scaled to 255 steps between its minimum and maximum in the reference, and values outside are
    clipped.
    """

    def __init__(self, file: Path, shape: Sequence[int]) -> None:
        """Reads the rows.

        Args:
            file: An ``.npz`` file with rows ``x``, bytes or float32, as written by :class:`~zoo.data.Pool`.
            shape: Required shape of a row.

        Raises:
            BadInput: The file does not exist, or has no rows of this shape.
        """
        x = _read(file)
        if x.shape[1:] != tuple(shape) or not len(x) or not np.isfinite(x).all():
            raise BadInput(
                f"{file}: {len(x)} rows of shape {x.shape[1:]}; expected at least one of shape {tuple(shape)}, "
                "without missing values"
            )
        x = x.reshape(len(x), -1)
        self._low, span = np.float32(0), np.float32(1)
        if x.min() < 0 or x.max() > 1:
            self._low, span = x.min(axis=0), np.ptp(x, axis=0)
        self._scale = np.float32(255) / np.where(span > 0, span, np.float32(1))
        self._rows = Rows.of(pixels(self._octets(x))[1])
        self._batch = MicroBatch[Array, Array](self._features, size=len, most=_MOST)

    async def features(self, x: Array, labels: Labels) -> Array:
        """Returns rows ``(n, ...)`` as bytes with their distances, ``(n, d + TAIL)`` uint8; see :func:`split`."""
        return await self._batch(x)

    async def _features(self, parts: Sequence[Array]) -> list[Array]:
        octets = [self._octets(part.reshape(len(part), -1)) for part in parts]
        x = Rows.of(pixels(np.concatenate(octets))[1])
        if x.values.size * len(self._rows.values) < _PLAIN:
            squares = nearest(x, self._rows)
        else:
            squares = await asyncio.to_thread(nearest, x, self._rows)
        tails = squares.astype("<f4")[:, None].view(np.uint8)
        ends = np.cumsum([len(part) for part in octets])[:-1]
        return [np.concatenate(part, axis=1) for part in zip(octets, np.split(tails, ends), strict=True)]

    def _octets(self, x: Array) -> Array:
        values = x / np.float32(255) if x.dtype == np.uint8 else x
        octets: Array = np.rint((values - self._low) * self._scale).clip(0, 255).astype(np.uint8)
        return octets


def split(features: Array) -> tuple[Array, Array]:
    """Splits features ``(n, d + TAIL)`` into bytes ``(n, d)`` and squared distances ``(n,)`` to the reference."""
    tails = np.ascontiguousarray(features[:, -TAIL:]).view("<f4")[:, 0]
    return features[:, :-TAIL], tails.astype(np.float64)


def _read(file: Path) -> Array:
    arrays = read_arrays(file, "rows")
    if "x" not in arrays:
        raise BadInput(f'{file}: not a valid .npz file of rows: it has {sorted(arrays)}, but no "x"')
    x = arrays["x"]
    if x.dtype not in (np.uint8, np.float32) or x.ndim < 2:
        raise BadInput(f"{file}: x must be rows (n, ...) of bytes or float32, not {x.shape} of {x.dtype}")
    return np.divide(x, np.float32(255), dtype=np.float32) if x.dtype == np.uint8 else x
