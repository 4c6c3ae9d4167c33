"""The statistic W of Shapiro and Wilk.

Sources: Shapiro, Wilk, "An analysis of variance test for normality (complete samples)", Biometrika 1965; Royston,
"Remark AS R94: A remark on algorithm AS 181: the W-test for normality", Applied Statistics 1995, for the weights.
Royston's p-value is fitted to at most 5,000 values, and there scipy warns. W itself is defined for any number by
the same weights, and it is W that is wanted here: nothing changes above 5,000.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri

from wire import Array

_LAST = (-2.706056, 4.434685, -2.071190, -0.147981, 0.221157, 0.0)  # in 1 / sqrt(n), highest power first
_LAST_BUT_ONE = (-3.582633, 5.682633, -1.752461, -0.293762, 0.042981, 0.0)
_FINENESS = 9  # `least` takes the weights of sample sizes that agree in so many leading bits


class Weights(NamedTuple):
    """The weights of the order statistics of a sample, which are antisymmetric.

    Attributes:
        half: Those of the greatest values, ``(n // 2,)``, greatest first; but for the first two (of n up to 5, the
            first) they are the expected order statistics of a normal sample divided by ``scale``.
        scale: What makes the sum of squares of all weights 1.
    """

    half: Array
    scale: float


@lru_cache(64)
def weights(n: int) -> Weights:
    """Returns the weights for a sample of at least 3."""
    if n == 3:
        return Weights(np.array([0.5**0.5]), 1.0)
    expected = -ndtri((np.arange(1, n // 2 + 1) - 0.375) / (n + 0.25))
    squares = 2 * float((expected * expected).sum())
    outer = 1 if n <= 5 else 2
    polynomials = [np.polyval(p, n**-0.5) for p in (_LAST, _LAST_BUT_ONE)[:outer]]
    fitted = expected[:outer] / squares**0.5 + polynomials
    rest = squares - 2 * float((expected[:outer] ** 2).sum())
    scale = (rest / (1 - 2 * float((fitted**2).sum()))) ** 0.5
    half = expected / scale
    half[:outer] = fitted
    return Weights(half, scale)


def statistic(x: Array) -> float:
    """Returns W of a sorted sample ``(n,)`` of at least 3; that of a constant one is 1.

    The sums are numpy's own, in pairs, and so depend on the values alone.
    """
    spread = float(x[-1] - x[0])
    if spread == 0:
        return 1.0
    centred = (x - x[len(x) // 2]) / spread
    half = len(x) // 2
    b = _dot(weights(len(x)).half, centred[::-1][:half] - centred[:half])
    centred -= centred.mean()
    return min(1.0, b * b / _dot(centred, centred))


def least(core: Array, doubtful: Array) -> float:
    """Returns a bound that W of a sample cannot fall under, whatever some of its values are.

    W is ``b^2 / SS``. Let the sample be ``core`` and some of ``doubtful``. Its SS is at most that of all of them.
    In b the weights do not decrease with the order of the values, so b can only fall if the doubtful ones move to
    the middle, where they add nothing negative, and leave the outer places to ``core``. What that adds takes the
    weights of a sample of between n and N values, n those of ``core`` and N all: with n the expected order
    statistics increase, and so does their scale, while the two outer weights decrease. So those of at most n and
    those of at least N values will do, and these are chosen such that they are seldom new.

    Args:
        core: Values that are surely in the sample, sorted, ``(n,)``.
        doubtful: Others that may be in it, ``(q,)``.
    """
    n, most = len(core), len(core) + len(doubtful)
    if n < 32 or 8 * len(doubtful) > n:
        return 0.0  # nothing worth having
    step = 1 << max(0, n.bit_length() - _FINENESS)
    lower, upper = weights(n - n % step), weights(-(-most // step) * step)
    size = len(lower.half)
    ranges = core[: -size - 1 : -1] - core[:size]
    b = _dot(lower.half[2:], ranges[2:]) * lower.scale / upper.scale + _dot(upper.half[:2], ranges[:2])
    middle = core[n // 2]
    inner, outer = core - middle, doubtful - middle
    total = float(inner.sum()) + float(outer.sum())
    squares = _dot(inner, inner) + _dot(outer, outer)
    spread = squares - total * total / most
    return (1 - 1e-9) * b * b / spread if spread > 1e-6 * squares else 0.0  # 0 where too little is left to trust


def _dot(x: Array, y: Array) -> float:
    """Returns ``x @ y``; BLAS would wake threads for it and round as their number has it."""
    return float((x * y).sum())
