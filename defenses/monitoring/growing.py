"""PRADA's growing sets: the kept rows of each class, and the distance of a new row to the nearest of them.

A growing set cannot forget rows. For a sliding window there are two, which start half a window apart
(:func:`halves`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from defenses.monitoring.nearest import UNIT, Kept, Rows, float_squares, floats, nearest, pixel_squares, pixels
from wire import Array, Labels

_STEP = 256  # rows to compare at a time


def flat_rows(rows: Array, labels: Labels, width: int | None) -> Array:
    """Returns rows as ``(n, d)``, bytes or float32.

    Args:
        rows: Rows ``(n, ...)``.
        labels: Their classes, ``(n,)``.
        width: The d of earlier rows, if any.

    Raises:
        ValueError: The rows have another width, some are not finite, or the number of labels differs.
    """
    x = rows.reshape(len(rows), math.prod(rows.shape[1:]))
    if len(labels) != len(x):
        raise ValueError(f"{len(x)} rows with {len(labels)} labels")
    if width not in (None, x.shape[1]):
        raise ValueError(f"rows of {x.shape[1]} features after rows of {width}")
    if x.dtype == np.uint8:
        return x
    x = x.astype(np.float32, copy=False)
    if not np.isfinite(x).all():
        raise ValueError("distances need finite features")
    return x


@dataclass
class GrowingSets:
    """The growing sets G_c of an account.

    Rows are kept as bytes as long as all rows are 8-bit pixels (:func:`~.nearest.pixels`), and as float32 from the
    first other row on.

    Attributes:
        sets: The sets by class c.
        pixels: Whether rows are kept as bytes.
    """

    sets: dict[int, Kept] = field(default_factory=dict)
    pixels: bool = True

    @property
    def nbytes(self) -> int:
        """Memory of the sets, in bytes."""
        return sum(kept.nbytes for kept in self.sets.values())

    def arrivals(self, x: Array, labels: Labels) -> Iterator[tuple[Arrivals, Labels]]:
        """Yields rows in parts, with their classes; each part must be processed before the next.

        Args:
            x: Rows ``(n, d)``, float32, or bytes b that stand for b / 255.
            labels: Their classes, ``(n,)``.
        """
        same, octets = pixels(x)
        first = len(x) if same.all() else int(same.argmin())  # index of the first row that is not 8-bit pixels
        start = 0
        while start < len(x):
            end = min(start + _STEP, first if start < first else len(x))
            if start >= first:
                self._to_floats()
            part = slice(start, end)
            values = octets[part] if self.pixels or x.dtype == np.uint8 else x[part]
            rows = Rows.of(values if self.pixels else floats(values))
            yield Arrivals(self, rows, labels[part]), labels[part]
            start = end

    def _to_floats(self) -> None:
        if self.pixels:
            self.pixels = False
            for c, kept in self.sets.items():
                rows = Rows.of(floats(kept.rows.values))
                self.sets[c] = Kept.like(rows)
                self.sets[c].append(rows)


class Arrivals:
    """Rows that arrive one by one: each has a distance to its class's set, and may then be added to it."""

    def __init__(self, grown: GrowingSets, x: Rows, labels: Labels) -> None:
        """Computes the distances to the kept rows, and among the new rows.

        Args:
            grown: The sets.
            x: The rows, of the same type as the kept ones.
            labels: Their classes, ``(m,)``.
        """
        self._x, self._labels = x, labels.tolist()
        self._sets = grown.sets
        self._squares = np.full(len(labels), np.inf)
        self._among = np.full((len(labels), len(labels)), np.inf)
        for c in set(self._labels):
            at = np.flatnonzero(labels == c)
            rows = x.at(at)
            kept = self._sets.setdefault(c, Kept.like(x))
            self._squares[at] = nearest(rows, kept.rows)
            if len(at) > 1:
                if grown.pixels:
                    squares = pixel_squares(rows, rows) / UNIT
                else:
                    squares = float_squares(rows, rows, self._squares[at]).T
                self._among[np.ix_(at, at)] = squares

    def distance(self, i: int) -> float:
        """Returns the distance of row i to the nearest row in its class's set; inf if the set is empty."""
        return math.sqrt(self._squares[i])

    def keep(self, i: int) -> None:
        """Adds row i to its class's set."""
        self._sets[self._labels[i]].append(self._x.at(slice(i, i + 1)))
        np.minimum(self._squares[i + 1 :], self._among[i, i + 1 :], out=self._squares[i + 1 :])


def halves(before: int, count: int, window: int | None) -> Iterator[tuple[slice, bool]]:
    """Splits rows at the end of each half window, where the older of two folds is dropped and a new one begins.

    Args:
        before: Number of earlier rows.
        count: Number of new rows.
        window: Rows in a window; None for no window.

    Yields:
        A part of the rows, never empty, and whether half a window ends with it.
    """
    half = before + count + 1 if window is None else window // 2
    start = 0
    while start < count:
        end = min(count, start + half - (before + start) % half)
        yield slice(start, end), (before + end) % half == 0
        start = end
