"""Points on a decision boundary, by bisection of lines between rows of two classes.

Source: Tramèr, Zhang, Juels, Reiter, Ristenpart, "Stealing Machine Learning Models via Prediction APIs", USENIX
Security 2016, section 6; for parallel lines, Lowd, Meek, "Adversarial Learning", KDD 2005, section 3.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from wire import Array, Labels, Oracle
from wire.fits import ranges


def lines(labels: Labels, n: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Draws ``n`` pairs of rows of different classes; returns the indices of their ends, ``(n,)`` each.

    Args:
        labels: The rows' labels, ``(m,)``, of at least two classes.
        n: Number of pairs.
        rng: Source of the draw.
    """
    pairs = np.empty((n, 2), np.int64)
    for pair in pairs:
        pair[0] = rng.integers(len(labels))
        pair[1] = rng.choice(np.flatnonzero(labels != labels[pair[0]]))
    return pairs[:, 0], pairs[:, 1]


def bisect(ask: Callable[[Array], Labels], a: Array, b: Array, labels: Labels, tolerance: float) -> Array:
    """Bisects lines, all at once, until the boundary is known to within a share of each line's length.

    Args:
        ask: Labels rows; if it labels fewer rows than it is given, the bisection ends.
        a: Starts of the lines, ``(n, *input_shape)``.
        b: Their ends.
        labels: The labels of the starts, ``(n,)``; the ends have others.
        tolerance: Share of a line's length.

    Returns:
        The middles of what is left of the lines, ``(n, *input_shape)``.
    """
    length = 1.0
    while length > tolerance:
        middle = (a + b) / 2
        found = ask(middle)
        if len(found) < len(middle):
            break
        same = (found == labels).reshape(-1, *[1] * (a.ndim - 1))
        a, b = np.where(same, middle, a), np.where(same, b, middle)
        length /= 2
    return (a + b) / 2


class Line:
    """The line from a row of the first class to one of the second, and lines parallel to it."""

    def __init__(self, oracle: Oracle, first: Array, second: Array, tolerance: float) -> None:
        """Makes a line through two rows, ``(d,)`` each; ``tolerance`` is a share of its length."""
        self._oracle, self._tolerance = oracle, tolerance
        self._first, self._way = first, second - first
        self._low, self._high = (end.reshape(-1) for end in ranges(oracle.card))

    def at(self, moved: Array, t: Array) -> Array:
        """Returns points of lines displaced by ``moved``, ``(n, d)``, at the shares ``t``, ``(n,)``."""
        points: Array = self._first + moved + t[:, None] * self._way
        return points

    def crossings(self, moved: Array) -> Array:
        """Bisects displaced lines, all at once, within the range of the features.

        Returns:
            The share of the line's length at which the label changes, ``(n,)``, less exactly if the victim stops
            answering; NaN where it does not change, or is not known to.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            ends = [(end - self._first - moved) / self._way for end in (self._low, self._high)]
        still = self._way == 0
        a = np.where(still, -np.inf, np.minimum(*ends)).max(axis=1)
        b = np.where(still, np.inf, np.maximum(*ends)).min(axis=1)
        crossed = np.full(len(moved), np.nan)
        rows = np.flatnonzero(a < b)
        a, b, moved = a[rows], b[rows], moved[rows]
        labels = self._labels(np.concatenate([moved, moved]), np.concatenate([a, b]))
        if labels is None:
            return crossed
        differ = (labels[: len(rows)] == 0) & (labels[len(rows) :] == 1)
        rows, a, b, moved = rows[differ], a[differ], b[differ], moved[differ]
        while len(rows) and (b - a).max() > self._tolerance:
            middle = (a + b) / 2
            if (labels := self._labels(moved, middle)) is None:
                break
            a, b = np.where(labels == 0, middle, a), np.where(labels == 0, b, middle)
        crossed[rows] = (a + b) / 2
        return crossed

    def _labels(self, moved: Array, t: Array) -> Labels | None:
        """Returns the victim's labels of points, ``(n,)``; None if not all of them were answered."""
        x = np.clip(self.at(moved, t), self._low, self._high).astype(np.float32)
        labels = self._oracle.collect(x.reshape(-1, *self._oracle.card.input_shape)).labels
        return labels if len(labels) == len(x) else None
