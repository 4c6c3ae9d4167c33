"""Exact distances from rows to their nearest neighbours, by matrix products.

A distance depends on its two rows alone, not on other rows in the product. Rows of 8-bit pixels are stored as
bytes, multiplied as int8 and summed as integers, without error. For other rows, a float32 product only finds
candidates, by a bound on its rounding error (Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed.
2002, section 3.5); the distances of the candidates are then computed from the differences, in float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np

from wire import Array

UNIT = 255.0**2  # ratio of squared distances between bytes to those between pixels in [0, 1]
_PART = 1 << 15  # columns for which squared differences of bytes sum to less than 2^31
_EXACT = 1 << 10  # columns for which int8 products sum to at most 2^24, up to which float32 is exact for integers
_FEWEST = 4  # columns from which PyTorch's int8 product is correct
_TO_LAST_BITS = np.float32(1.5 * 2**23 - 128)  # added to a number: the last bits hold its integer part minus 128
_LOST = 1e-30  # upper bound on the sum of products that underflow
_ELEMENTS = 1 << 20  # differences to compute at a time


def pixels(x: Array) -> tuple[Array, Array]:
    """Finds the rows ``(n, d)`` that are 8-bit pixels: bytes, or float32 values of the form ``k / 255``.

    Returns:
        Which rows are pixels, ``(n,)`` bool, and their bytes minus 128, ``(n, d)`` int8, arbitrary for other rows.
    """
    if x.dtype == np.uint8:
        return np.ones(len(x), bool), (x ^ np.uint8(128)).view(np.int8)
    with np.errstate(invalid="ignore", over="ignore"):  # the comparison below rejects such values
        y = x * np.float32(255)
        y += _TO_LAST_BITS
    values = y.view(np.int32).astype(np.int8)
    return (floats(values) == x).all(axis=1), values


def floats(values: Array) -> Array:
    """Converts int8 pixels (:func:`pixels`) to float32; returns other numbers unchanged."""
    if values.dtype != np.int8:
        return values
    y = values.astype(np.float32)
    y += np.float32(128)
    y /= np.float32(255)
    return y


class Rows(NamedTuple):
    """Rows with their squared norms.

    Attributes:
        values: The rows ``(n, d)``, float32, or int8 for pixels (:func:`pixels`).
        norms: The squared norms, ``(n,)``: integers for pixels, else float64.
    """

    values: Array
    norms: Array

    @classmethod
    def of(cls, values: Array) -> Rows:
        """Makes rows from values ``(n, d)`` of either type."""
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
    """A growable array of rows, in order of arrival.

    Its content depends on the rows alone, not on how they were split into calls.

    Attributes:
        values: The rows (:class:`Rows`), followed by zero padding for at most a sixteenth as many.
        norms: The squared norms, padded likewise.
        count: Number of rows.
    """

    values: Array
    norms: Array
    count: int = 0

    @classmethod
    def like(cls, x: Rows) -> Kept:
        """Returns an empty one for rows of this width and type."""
        return cls(np.empty_like(x.values[:0]), np.empty_like(x.norms[:0]))

    @property
    def rows(self) -> Rows:
        """The rows, valid until the next change."""
        return Rows(self.values[: self.count], self.norms[: self.count])

    @property
    def nbytes(self) -> int:
        """Memory of the arrays, in bytes."""
        return self.values.nbytes + self.norms.nbytes

    def append(self, x: Rows) -> None:
        """Appends rows."""
        start, self.count = self.count, self.count + len(x.values)
        self._fit()
        self.values[start : self.count], self.norms[start : self.count] = x

    def drop(self, count: int) -> None:
        """Removes the first ``count`` rows."""
        self.count -= count
        for array in (self.values, self.norms):
            array[: self.count] = array[count : count + self.count]
            array[self.count :] = 0
        self._fit()

    def _fit(self) -> None:
        step = 1 << max(0, self.count.bit_length() - 5)
        size = -(-self.count // step) * step
        if size != len(self.values):  # in place, so that large arrays are not copied
            self.values.resize((size, self.values.shape[1]), refcheck=False)
            self.norms.resize(size, refcheck=False)


def pixel_squares(x: Rows, y: Rows) -> Array:
    """Returns the squared distances of pixels, ``(m, n)``, as exact integers in units of (1/255)^2."""
    squares = _products(x.values, y.values)
    squares *= -2
    squares += y.norms
    squares += x.norms[:, None]
    return squares


def nearest(x: Rows, y: Rows) -> Array:
    """Returns the squared distance of each row to the nearest other row, ``(m,)`` float64; inf without others.

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
    """Returns the exact ``x @ y.T`` for int8."""
    d = x.shape[1]
    if d < _FEWEST or not _int8_is_exact():
        parts = (slice(i, i + _EXACT) for i in range(0, d, _EXACT))
        products = [x[:, part].astype(np.float32) @ y[:, part].T.astype(np.float32) for part in parts]
        return np.asarray(sum(products[1:], products[0].astype(np.float64)), np.int32 if d <= _PART else np.int64)
    import torch  # deferred: commands such as making an account do not need it

    a, b = torch.from_numpy(x), torch.from_numpy(y).T
    if d <= _PART:
        return torch._int_mm(a, b).numpy()
    products = [torch._int_mm(a[:, i : i + _PART], b[i : i + _PART]).numpy() for i in range(0, d, _PART)]
    return sum(products[1:], products[0].astype(np.int64))


@cache
def _int8_is_exact() -> bool:
    """Returns whether PyTorch's int8 product is exact; without VNNI, some kernels saturate sums of two."""
    import torch

    x = np.resize(np.array([[127] * 3, [-128] * 3, [127, -128, 127]], np.int8), (3, 96))
    wide = x.astype(np.int64)
    try:
        return bool((torch._int_mm(torch.from_numpy(x), torch.from_numpy(x).T).numpy() == wide @ wide.T).all())
    except (AttributeError, RuntimeError):
        return False


def float_squares(x: Rows, y: Rows, limits: Array | None = None) -> Array:
    """Returns the squared distances of float32 rows up to a limit, ``(m, n)`` float64, and inf for larger ones.

    Args:
        x: Rows ``(m, d)``.
        y: Rows ``(n, d)``, at least one.
        limits: The largest squared distance of interest for each row of ``x``, ``(m,)``; default: the smallest
            one.
    """
    slack = (x.values.shape[1] + 8) * 2.0**-24  # slack * (x @ x + y @ y) bounds the error of 2 x @ y
    with np.errstate(over="ignore", invalid="ignore"):
        lower = (x.values @ y.values.T).astype(np.float64)
    lower *= -2
    lower += ((1 - slack) * x.norms - _LOST)[:, None]
    lower += (1 - slack) * y.norms
    lower[~np.isfinite(lower)] = -np.inf  # an overflow gives no bound
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
    """Returns the sum of squares of each row, by pairwise summation; overwrites the rows."""
    x *= x
    return x.sum(axis=1)  # type: ignore[no-any-return]
