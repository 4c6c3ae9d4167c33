"""DAWN's verification: the probability that a model that was not stolen agrees with as many marks.

Source: Szyller, Atli, Marchal, Asokan, "DAWN: Dynamic Adversarial Watermarking of Neural Networks", ACM Multimedia
2021 (arXiv 1906.00830), "Watermark verification". The paper uses ``p0 = 1/m`` for m classes, as if independent
models guessed; here, p0 is measured on independent models.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from wire import Array
from zoo.exact_interval import exact_interval

_MOST = 10**7  # maximum number of marks to consider


def tail(marks: int, error: float, p0: float) -> float:
    """Returns the probability that at most a share ``error`` of marks fails, if each holds with probability p0.

    It is ``sum(C(n, i) (1 - p0)^i p0^(n - i) for i in range(floor(error * n) + 1))``.
    """
    return float(stats.binom.cdf(_failures(marks, error), marks, 1 - p0))


def marks_needed(error: float, p0: float, chance: float, least: int = 1) -> int | None:
    """Returns the smallest number of marks, at least ``least``, with a tail below ``chance``; None without one.

    A larger number may be too few again, because the floor makes the tail non-monotonic.
    """
    if tail(_MOST, error, p0) >= chance:  # on average, independent models fail no more often than ``error``
        return None
    start, size = least, 1024
    while start < _MOST:
        n = np.arange(start, start + size)
        enough = np.asarray(stats.binom.cdf(_failures(n, error), n, 1 - p0)) < chance
        if enough.any():
            return int(n[enough.argmax()])
        start, size = start + size, 2 * size
    return None


def chance_bound(agreed: Sequence[int], marks: int, classes: int, confidence: float = 0.99) -> float:
    """Returns an upper bound on p0, the probability that a mark holds in a model that was not stolen.

    The bound is the largest of the independent models' upper confidence bounds (Clopper and Pearson, Biometrika
    1934), and at least ``1 / classes``, the paper's p0, in case the independent models were badly chosen.

    Args:
        agreed: Number of marks that hold in each independent model.
        marks: Number of marks, at least 1.
        classes: Number of classes.
        confidence: One-sided confidence level of each bound.
    """
    bounds = [exact_interval(k, marks, 2 * confidence - 1).high for k in agreed]
    return max([1 / classes, *bounds])


def _failures(marks: int | Array, error: float) -> Array:
    return np.asarray(np.floor(np.asarray(marks) * error + 1e-9))  # tolerance: 0.29 * 100 is slightly less than 29
