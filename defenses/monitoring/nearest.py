"""Distances from rows to their nearest neighbours, by matrix products and yet exact.

The distance of two rows is a function of the two alone, not of what else was in a product. Rows of 8-bit pixels
are kept as bytes, multiplied as int8 and summed in int32, without error. For other rows a float32 product only
tells which neighbours can be the nearest, by the bound of its rounding error (Higham, "Accuracy and Stability of
Numerical Algorithms", 2nd ed. 2002, section 3.5); these few distances are summed anew from the differences, in
float64. So near-duplicates, where squared norms cancel, are as exact as the rest.
"""

from __future__ import annotations

from functools import cache, cached_property

import numpy as np

from wire import Array, Labels

_PART = 1 << 15  # columns whose squared differences of bytes sum to less than 2^31
_EXACT = 1 << 10  # columns whose products of int8 sum to at most 2^24, the integers that float32 holds
_FEWEST = 4  # of one column PyTorch's product is not even initialised
_TO_LAST_BITS = np.float32(1.5 * 2**23 - 128)  # added to a number, leaves it rounded and less 128 in the last bits
_ROWS = 1 << 12  # kept rows that are turned to float32 at a time
_LOST = 1e-30  # more than products that underflow can sum to
_ELEMENTS = 1 << 20  # differences that are made at a time


class Grown:
    """Rows in contiguous memory, first in, first out, with at most a sixteenth of it to spare.

    It grows by ``realloc``, which moves pages and holds nothing twice where the system knows how. Views of
    ``rows`` hold only until the next change.
    """

    def __init__(self, like: Array) -> None:
        """Begins with none; ``like`` are rows of the shape and type that will come, ``(n, ...)``."""
        self._memory = np.empty_like(like[:0])
        self._start = self._end = 0

    def __len__(self) -> int:
        return self._end - self._start

    @property
    def rows(self) -> Array:
        """The rows, ``(n, ...)``."""
        return self._memory[self._start : self._end]

    @property
    def nbytes(self) -> int:
        """The memory it takes."""
        return self._memory.nbytes

    def append(self, rows: Array) -> None:
        """Adds rows ``(m, ...)`` at the end."""
        end = self._end + len(rows)
        if end > len(self._memory):
            self._resize(end + end // 32)
        self._memory[self._end : end] = rows
        self._end = end

    def drop(self, count: int) -> None:
        """Removes the first rows."""
        self._start += count
        size = len(self)
        if self._start > size // 32:
            self._memory[:size] = self.rows
            self._start, self._end = 0, size
            self._resize(size + size // 32)

    def _resize(self, size: int) -> None:
        self._memory.resize((size, *self._memory.shape[1:]), refcheck=False)


class Rows:
    """Some rows ``(n, d)``, either all of 8-bit pixels or none.

    Attributes:
        values: Pixels less 128, int8, or the rows in float32.
    """

    def __init__(self, values: Array) -> None:
        """Takes values of either type."""
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: Array | slice) -> Rows:
        rows = Rows(self.values[index])
        rows.norms = self.norms[index]
        return rows

    @property
    def pixels(self) -> bool:
        """Whether they are pixels."""
        return self.values.dtype == np.int8

    @cached_property
    def norms(self) -> Array:
        """Their squared norms, ``(n,)``: integers of pixels, else float64."""
        if not self.pixels:
            return _sums_of_squares(self.values.astype(np.float64))
        wide = self.values.astype(np.int32)
        norms: Array = np.einsum("ij,ij->i", wide, wide, dtype=np.int32 if wide.shape[1] <= _PART else np.int64)
        return norms

    @cached_property
    def floats(self) -> Rows:
        """The rows in float32, whichever they are."""
        return Rows(_floats(self.values)) if self.pixels else self


class Kept:
    """The rows of one class, of pixels or not, that were kept."""

    def __init__(self, like: Rows) -> None:
        """Begins with none."""
        self._values, self._norms = Grown(like.values), Grown(like.norms)

    def __len__(self) -> int:
        return len(self._values)

    @property
    def values(self) -> Array:
        """The rows as :class:`Rows` has them; until the next change."""
        return self._values.rows

    @property
    def nbytes(self) -> int:
        """The memory they take."""
        return self._values.nbytes + self._norms.nbytes

    def append(self, rows: Rows) -> None:
        """Adds rows at the end."""
        self._values.append(rows.values)
        self._norms.append(rows.norms)

    def drop(self, count: int) -> None:
        """Removes the first rows."""
        self._values.drop(count)
        self._norms.drop(count)

    def nearest(self, x: Rows, gone: Array | None = None) -> Array:
        """Returns the squared distance of each row of ``x`` to the nearest kept one, ``(m,)`` float64.

        Args:
            x: Rows, ``(m, d)``.
            gone: How many of the first kept rows do not count, for each row of ``x``; None if all count.
        """
        if x.pixels and self.values.dtype == np.int8:
            squares = _between_pixels(x, self.values, self._norms.rows)
            if gone is None:
                least = (squares.min(axis=1) + x.norms) / _UNIT
            else:
                lost = np.arange(len(self)) < gone[:, None]
                least = (np.where(lost, np.inf, squares).min(axis=1, initial=np.inf) + x.norms) / _UNIT
            return np.asarray(least)
        x = x.floats
        best = np.full(len(x), np.inf)
        for start in range(0, len(self), _ROWS):
            y = self._part(slice(start, start + _ROWS)).floats
            out = None if gone is None else np.arange(start, start + len(y)) < gone[:, None]
            best = np.minimum(best, _between_floats(x, y, best, out).min(axis=1))
        return best

    def closest(self, x: Rows, first: Array, end: Array) -> tuple[Array, Array]:
        """Returns the squared distance to the nearest of some kept rows, and its place; all rows are of pixels.

        Args:
            x: Rows, ``(m, d)``.
            first: For each of them the place of the first row that counts.
            end: The place behind the last one.

        Returns:
            Squared distances ``(m,)`` float64, inf where no row counts, and places ``(m,)``, the first of several.
        """
        squares = _between_pixels(x, self.values, self._norms.rows)
        places, most = np.arange(len(self)), np.iinfo(squares.dtype).max
        low, high = first.max(), end.min()
        squares[:, :low][places[:low] < first[:, None]] = most
        squares[:, high:][places[high:] >= end[:, None]] = most
        at = squares.argmin(axis=1)
        least = np.take_along_axis(squares, at[:, None], 1)[:, 0] + x.norms.astype(np.float64)
        return np.where(first < end, least / _UNIT, np.inf), at

    def _part(self, index: slice) -> Rows:
        rows = Rows(self.values[index])
        rows.norms = self._norms.rows[index]
        return rows


def pixels(x: Array) -> tuple[Array, Array]:
    """Tells which rows ``(n, d)`` are 8-bit pixels, and returns the bytes.

    Those of dtype uint8 are, and those of which each value is ``k / 255`` in float32.

    Returns:
        Whether each row is, ``(n,)``, and the bytes less 128, ``(n, d)`` int8, of those that are.
    """
    if x.dtype == np.uint8:
        return np.ones(len(x), bool), _shifted(x)
    with np.errstate(invalid="ignore", over="ignore"):  # what is out of range is found to differ
        y = x * np.float32(255)
        y += _TO_LAST_BITS
    values = y.view(np.int32).astype(np.int8)
    y[...] = values
    y += np.float32(128)
    y /= np.float32(255)
    return (y == x).all(axis=1), values


def among(x: Rows, labels: Labels, limits: Array) -> Array:
    """Returns the squared distance of each row to each later one of its class, ``(m, m)`` float64.

    They are right where they are at most the later row's limit; others may be inf.
    """
    apart = np.tri(len(x), dtype=bool) | (labels[:, None] != labels)
    if not x.pixels:
        return np.ascontiguousarray(_between_floats(x, x, limits, apart.T, every=True).T)
    squares: Array = (_between_pixels(x, x.values, x.norms) + x.norms[:, None]) / _UNIT
    squares[apart] = np.inf
    return squares


_UNIT = 255.0**2


def _shifted(x: Array) -> Array:
    return (x ^ np.uint8(128)).view(np.int8)


def _floats(values: Array) -> Array:
    return _shifted(values.view(np.uint8)).view(np.uint8) / np.float32(255)


def _between_pixels(x: Rows, y: Array, y_norms: Array) -> Array:
    """Returns squared distances ``(m, n)`` in units of a 255th, integers, less the squared norms of ``x``."""
    squares = _product(x.values, y)
    squares *= -2
    squares += y_norms
    return squares


def _product(x: Array, y: Array) -> Array:
    """Returns ``x @ y.T`` of int8, exactly."""
    d = x.shape[1]
    if d < _FEWEST or not _int8_is_exact():
        parts = (slice(i, i + _EXACT) for i in range(0, d, _EXACT))
        products = [x[:, part].astype(np.float32) @ y[:, part].T.astype(np.float32) for part in parts]
        return np.asarray(sum(products[1:], products[0].astype(np.float64)), np.int32 if d <= _PART else np.int64)
    import torch  # here, since making an account, which reads settings, should not wait for it

    a, b = torch.from_numpy(x), torch.from_numpy(y).T
    if d <= _PART:
        return torch._int_mm(a, b).numpy()
    products = [torch._int_mm(a[:, i : i + _PART], b[i : i + _PART]).numpy() for i in range(0, d, _PART)]
    return sum(products[1:], products[0].astype(np.int64))


@cache
def _int8_is_exact() -> bool:
    """Tells whether PyTorch's product of int8 is; some kernels saturate sums of two on processors without VNNI."""
    import torch

    x = np.resize(np.array([[127] * 3, [-128] * 3, [127, -128, 127]], np.int8), (3, 96))
    wide = x.astype(np.int64)
    try:
        return bool((torch._int_mm(torch.from_numpy(x), torch.from_numpy(x).T).numpy() == wide @ wide.T).all())
    except (AttributeError, RuntimeError):
        return False


def _between_floats(x: Rows, y: Rows, limits: Array, out: Array | None, *, every: bool = False) -> Array:
    """Returns squared distances ``(m, n)``, inf where they cannot matter.

    Those are right that are at most the row's limit and, unless ``every`` such is wanted, may be the row's least.
    """
    slack = (x.values.shape[1] + 8) * 2.0**-24  # of 2 x @ y, whose error this times x @ x + y @ y bounds
    with np.errstate(over="ignore", invalid="ignore"):
        lower = (x.values @ y.values.T).astype(np.float64)
    lower *= -2
    lower += ((1 - slack) * x.norms - _LOST)[:, None]
    lower += (1 - slack) * y.norms
    lower[~np.isfinite(lower)] = -np.inf  # what overflowed on its way tells nothing
    if out is not None:
        lower[out] = np.inf
    if not every:
        first = lower.argmin(axis=1)
        upper = lower[np.arange(len(x)), first] + 2 * slack * (x.norms + y.norms[first]) + 2 * _LOST
        limits = np.where(upper > -np.inf, np.minimum(limits, upper), limits)
    squares = np.full(lower.shape, np.inf)
    left, right = np.nonzero((lower <= limits[:, None]) & (lower < np.inf))
    for i in range(0, len(left), step := max(1, _ELEMENTS // x.values.shape[1])):
        a, b = left[i : i + step], right[i : i + step]
        apart = x.values[a].astype(np.float64)
        apart -= y.values[b]
        squares[a, b] = _sums_of_squares(apart)
    return squares


def _sums_of_squares(x: Array) -> Array:
    """Returns those of rows, in whose place there are squares then; each is summed in pairs, alone."""
    x *= x
    return x.sum(axis=1)  # type: ignore[no-any-return]
