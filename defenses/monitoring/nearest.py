"""Exact distances from rows to their nearest neighbours, by matrix products.

A distance is a function of its two rows alone, whatever else is in the product. Rows of 8-bit pixels are kept as
bytes, multiplied as int8 and summed as integers, without error. For other rows a float32 product only finds the
candidates, by a bound of its rounding error (Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed.
2002, section 3.5); the distances of these few are computed from the differences, in float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np

from wire import Array

UNIT = 255.0**2  # squared distances of bytes over those of pixels
_PART = 1 << 15  # columns whose squared differences of bytes sum to less than 2^31
_EXACT = 1 << 10  # columns whose products of int8 sum to at most 2^24, up to which float32 holds all integers
_FEWEST = 4  # columns from which on PyTorch's product of int8 is right
_TO_LAST_BITS = np.float32(1.5 * 2**23 - 128)  # a number plus this has its integer part less 128 in its last bits
_LOST = 1e-30  # more than products that underflow can sum to
_ELEMENTS = 1 << 20  # differences that are made at a time


def pixels(x: Array) -> tuple[Array, Array]:
    """Finds the rows ``(n, d)`` that are 8-bit pixels: bytes, or float32 that are all of the form ``k / 255``.

    Returns:
        Which rows are, ``(n,)`` bool, and their bytes less 128, ``(n, d)`` int8; other rows have any values there.
    """
    if x.dtype == np.uint8:
        return np.ones(len(x), bool), (x ^ np.uint8(128)).view(np.int8)
    with np.errstate(invalid="ignore", over="ignore"):  # such values are found to differ
        y = x * np.float32(255)
        y += _TO_LAST_BITS
    values = y.view(np.int32).astype(np.int8)
    return (floats(values) == x).all(axis=1), values


def floats(values: Array) -> Array:
    """Returns the float32 numbers that int8 stand for (:func:`pixels`), and other numbers as they are."""
    if values.dtype != np.int8:
        return values
    y = values.astype(np.float32)
    y += np.float32(128)
    y /= np.float32(255)
    return y


class Rows(NamedTuple):
    """Rows and what their distances take.

    Attributes:
        values: The rows ``(n, d)``, in float32, or in int8 if they are pixels (:func:`pixels`).
        norms: Their squared norms, ``(n,)``: integers if they are pixels, else float64.
    """

    values: Array
    norms: Array

    @classmethod
    def of(cls, values: Array) -> Rows:
        """Returns rows of values ``(n, d)`` of either type."""
        if values.dtype != np.int8:
            return cls(values, _sums_of_squares(values.astype(np.float64)))
        wide = values.astype(np.int32)
        dtype = np.int32 if values.shape[1] <= _PART else np.int64
        return cls(values, np.einsum("ij,ij->i", wide, wide, dtype=dtype))

    def at(self, index: Array | slice) -> Rows:
        """Returns some of the rows."""
        return Rows(self.values[index], self.norms[index])


@dataclass
class Kept:
    """Rows that were kept, in the order in which they came.

    All that it holds depends on the rows alone, and not on how they were split into calls.

    Attributes:
        values: The rows and, behind them, zeros for at most a sixteenth as many (:class:`Rows`).
        norms: Their squared norms, likewise.
        count: The number of rows.
    """

    values: Array
    norms: Array
    count: int = 0

    @classmethod
    def like(cls, x: Rows) -> Kept:
        """Returns one that holds no rows, for rows of this width and type."""
        return cls(np.empty_like(x.values[:0]), np.empty_like(x.norms[:0]))

    @property
    def rows(self) -> Rows:
        """The rows; until the next change."""
        return Rows(self.values[: self.count], self.norms[: self.count])

    @property
    def nbytes(self) -> int:
        """The memory that it takes."""
        return self.values.nbytes + self.norms.nbytes

    def append(self, x: Rows) -> None:
        """Adds rows at the end."""
        start, self.count = self.count, self.count + len(x.values)
        self._fit()
        self.values[start : self.count], self.norms[start : self.count] = x

    def drop(self, count: int) -> None:
        """Removes the first rows."""
        self.count -= count
        for array in (self.values, self.norms):
            array[: self.count] = array[count : count + self.count]
            array[self.count :] = 0
        self._fit()

    def _fit(self) -> None:
        step = 1 << max(0, self.count.bit_length() - 5)
        size = -(-self.count // step) * step
        if size != len(self.values):  # in place, so that large arrays are not held twice
            self.values.resize((size, self.values.shape[1]), refcheck=False)
            self.norms.resize(size, refcheck=False)


def pixel_squares(x: Rows, y: Rows) -> Array:
    """Returns the squared distances of pixels in units of a 255th, ``(m, n)``, exact integers."""
    squares = _products(x.values, y.values)
    squares *= -2
    squares += y.norms
    squares += x.norms[:, None]
    return squares


def nearest(x: Rows, y: Rows) -> Array:
    """Returns the squared distance of each row to the nearest of some others, ``(m,)`` float64; inf if none.

    Args:
        x: Rows ``(m, d)``.
        y: Rows ``(n, d)`` of the same type.
    """
    if not len(y.values):
        return np.full(len(x.values), np.inf)
    squares = pixel_squares(x, y) if x.values.dtype == np.int8 else float_squares(x, y)
    least: Array = squares.min(axis=1)
    return least / UNIT if x.values.dtype == np.int8 else least


def _products(x: Array, y: Array) -> Array:
    """Returns ``x @ y.T`` of int8, exactly."""
    d = x.shape[1]
    if d < _FEWEST or not _int8_is_exact():
        parts = (slice(i, i + _EXACT) for i in range(0, d, _EXACT))
        products = [x[:, part].astype(np.float32) @ y[:, part].T.astype(np.float32) for part in parts]
        return np.asarray(sum(products[1:], products[0].astype(np.float64)), np.int32 if d <= _PART else np.int64)
    import torch  # here, since a command that makes an account need not wait for it

    a, b = torch.from_numpy(x), torch.from_numpy(y).T
    if d <= _PART:
        return torch._int_mm(a, b).numpy()
    products = [torch._int_mm(a[:, i : i + _PART], b[i : i + _PART]).numpy() for i in range(0, d, _PART)]
    return sum(products[1:], products[0].astype(np.int64))


@cache
def _int8_is_exact() -> bool:
    """Returns whether PyTorch's product of int8 is exact; without VNNI some kernels saturate sums of two."""
    import torch

    x = np.resize(np.array([[127] * 3, [-128] * 3, [127, -128, 127]], np.int8), (3, 96))
    wide = x.astype(np.int64)
    try:
        return bool((torch._int_mm(torch.from_numpy(x), torch.from_numpy(x).T).numpy() == wide @ wide.T).all())
    except (AttributeError, RuntimeError):
        return False


def float_squares(x: Rows, y: Rows, limits: Array | None = None) -> Array:
    """Returns those squared distances of float32 rows that matter, ``(m, n)`` float64, and inf for the others.

    Args:
        x: Rows ``(m, d)``.
        y: Rows ``(n, d)``, at least one.
        limits: For each row of ``x``, distances up to this matter, ``(m,)``; by default its least distance does.
    """
    slack = (x.values.shape[1] + 8) * 2.0**-24  # times x @ x + y @ y, bounds the error of 2 x @ y
    with np.errstate(over="ignore", invalid="ignore"):
        lower = (x.values @ y.values.T).astype(np.float64)
    lower *= -2
    lower += ((1 - slack) * x.norms - _LOST)[:, None]
    lower += (1 - slack) * y.norms
    lower[~np.isfinite(lower)] = -np.inf  # what overflowed on its way bounds nothing
    if limits is None:
        least = lower.argmin(axis=1)
        limits = lower[np.arange(len(lower)), least] + 2 * slack * (x.norms + y.norms[least]) + 2 * _LOST
        limits[limits == -np.inf] = np.inf
    squares = np.full(lower.shape, np.inf)
    left, right = np.nonzero(lower <= limits[:, None])
    for i in range(0, len(left), step := max(1, _ELEMENTS // x.values.shape[1])):
        a, b = left[i : i + step], right[i : i + step]
        squares[a, b] = _sums_of_squares(x.values[a].astype(np.float64) - y.values[b])
    return squares


def _sums_of_squares(x: Array) -> Array:
    """Returns the sum of squares of each row, summed in pairs by itself; overwrites the rows."""
    x *= x
    return x.sum(axis=1)  # type: ignore[no-any-return]
