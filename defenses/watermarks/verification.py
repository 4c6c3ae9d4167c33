"""The statistics of a claim: how likely a model that was not stolen agrees with so many marks.

Szyller, Atli, Marchal, Asokan, "DAWN: Dynamic Adversarial Watermarking of Neural Networks", ACM Multimedia 2021,
"Watermark verification" (arXiv 1906.00830). The paper takes ``p0 = 1/m`` for m classes, as if independent models
guessed; here p0 is measured on some.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from wire import Array
from zoo.exact_interval import exact_interval

_MOST = 10**7  # marks; more than that are never "needed"


def tail(marks: int, error: float, p0: float) -> float:
    """Returns the chance that at most a share ``error`` of the marks fails, if each holds with probability ``p0``.

    It is ``sum(C(n, i) (1 - p0)^i p0^(n - i) for i in range(floor(error * n) + 1))``.
    """
    return float(stats.binom.cdf(_failures(marks, error), marks, 1 - p0))


def marks_needed(error: float, p0: float, chance: float, least: int = 1) -> int | None:
    """Returns the least number of marks, from ``least`` on, whose tail is below ``chance``; None if there is none.

    More marks than that may be fewer than enough, since the floor in the tail makes it rise now and then.
    """
    if tail(_MOST, error, p0) >= chance:  # as where independent models fail no more than that on average
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
    """Returns a bound of p0: how often a mark holds in a model that was not stolen.

    It is the greatest of the independent models' upper confidence bounds (Clopper, Pearson, Biometrika 1934), and
    never less than ``1 / classes``, as the paper has it: who chose the models may have chosen bad ones.

    Args:
        agreed: How many marks hold in each independent model.
        marks: How many marks there are, at least 1.
        classes: Number of classes.
        confidence: That of each bound, one-sided.
    """
    bounds = [exact_interval(k, marks, 2 * confidence - 1).high for k in agreed]
    return max([1 / classes, *bounds])


def _failures(marks: int | Array, error: float) -> Array:
    return np.asarray(np.floor(np.asarray(marks) * error + 1e-9))  # 0.29 * 100 is a little less than 29
