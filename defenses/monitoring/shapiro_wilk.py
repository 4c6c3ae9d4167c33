"""The statistic W of Shapiro and Wilk.

Sources: Shapiro, Wilk, "An analysis of variance test for normality (complete samples)", Biometrika 1965; Royston,
"Remark AS R94: A remark on algorithm AS 181: the W-test for normality", Applied Statistics 1995, for the weights.
Royston's p-value is fitted for at most 5,000 values, above which scipy warns. W itself is defined by the same
weights for any number of values, and only W is used here.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri

from wire import Array

_LAST = (-2.706056, 4.434685, -2.071190, -0.147981, 0.221157, 0.0)  # in 1 / sqrt(n), highest power first
_LAST_BUT_ONE = (-3.582633, 5.682633, -1.752461, -0.293762, 0.042981, 0.0)
_GROWTH = 1.001  # upper bound on the increase of the squared scale per additional value, from 32 values on
_TINY = 1e-300  # added to a sum of squares that may be 0


class Weights(NamedTuple):
    """The weights of a sample's order statistics, which are antisymmetric.

    Attributes:
        half: Weights of the largest values, ``(n // 2,)``, largest first. Except for the first two (for n up to 5,
            the first), they are the expected order statistics of a normal sample divided by ``scale``.
        scale: The factor that makes the sum of squares of all weights 1.
    """

    half: Array
    scale: float


@lru_cache(64)
def weights(n: int) -> Weights:
    """Returns the weights for a sample of n values, n at least 3."""
    if n == 3:
        return Weights(np.array([0.5**0.5]), 1.0)
    half = -ndtri((np.arange(1, n // 2 + 1) - 0.375) / (n + 0.25))
    squares = 2 * _dot(half, half)
    outer = 1 if n <= 5 else 2
    rest, fitted = squares, [_polynomial(p, n**-0.5) for p in (_LAST, _LAST_BUT_ONE)[:outer]]
    for i, expected in enumerate(half[:outer].tolist()):
        fitted[i] += expected / squares**0.5
        rest -= 2 * expected**2
    scale = (rest / (1 - 2 * sum(a * a for a in fitted))) ** 0.5
    half /= scale
    half[:outer] = fitted
    return Weights(half, scale)


def statistic(x: Array) -> float:
    """Returns W of a sorted sample ``(n,)``, n at least 3; 1 for a constant sample.

    Uses numpy's pairwise sums, which depend on the values alone.
    """
    spread = float(x[-1] - x[0])
    if spread == 0:
        return 1.0
    centred = (x - x[len(x) // 2]) / spread
    half = len(x) // 2
    b = _dot(weights(len(x)).half, centred[::-1][:half] - centred[:half])
    centred -= centred.mean()
    return min(1.0, b * b / _dot(centred, centred))


def lower_bounds(core: Array, doubtful: Array, more: Array) -> Array:
    """Returns lower bounds on W for a series of samples, ``(m + 1,)``.

    Sample t has all of ``core``, any of ``doubtful`` and any of the first t of ``more``. Its W is ``b^2 / SS``.
    Its SS is at most the sum of squares of all of these about any centre. Its b is at least the contribution of
    ``core`` in the outermost places, since the weights do not decrease outwards and the other values add nothing
    negative. The weights of a larger sample are bounded as follows: the expected order statistics increase with
    the sample size, their squared scale grows by at most ``_GROWTH`` per value, and the two outermost weights
    decrease more slowly than the square root of the size grows.

    Args:
        core: Sorted values, ``(n,)``; with fewer than 32, the bounds are 0.
        doubtful: Values ``(q,)``.
        more: Values ``(m,)``.
    """
    n = len(core)
    if n < 32:
        return np.zeros(len(more) + 1)
    half, scale = weights(n)
    ranges = core[: -len(half) - 1 : -1] - core[: len(half)]
    grown = len(doubtful) + np.arange(len(more) + 1)
    b = _dot(half[2:], ranges[2:]) / np.sqrt(1 + _GROWTH * grown / scale**2)
    b += _dot(half[:2], ranges[:2]) / np.sqrt(1 + grown / n)
    centre = core.mean()
    inner, outer = core - centre, np.concatenate([doubtful, more]) - centre
    squares = np.cumsum(np.concatenate([[_dot(inner, inner)], outer * outer]))[len(doubtful) :]
    bounds: Array = (1 - 1e-9) * b * b / (squares + _TINY)
    return bounds


def _polynomial(coefficients: Iterable[float], x: float) -> float:
    value = 0.0
    for coefficient in coefficients:
        value = value * x + coefficient
    return value


def _dot(x: Array, y: Array) -> float:
    """Returns ``x @ y`` without BLAS, whose rounding depends on its number of threads."""
    return float((x * y).sum())
