"""Points on a decision boundary, by bisection of lines between rows of two classes.

Source: Tramèr, Zhang, Juels, Reiter, Ristenpart, "Stealing Machine Learning Models via Prediction APIs", USENIX
Security 2016, section 6.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from wire import Array, Labels


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
