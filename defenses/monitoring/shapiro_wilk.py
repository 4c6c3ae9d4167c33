"""The statistic W of Shapiro and Wilk.

Sources: Shapiro, Wilk, "An analysis of variance test for normality (complete samples)", Biometrika 1965; Royston,
"Remark AS R94: A remark on algorithm AS 181: the W-test for normality", Applied Statistics 1995, for the weights.
Royston's p-value is fitted to at most 5,000 values, and there scipy warns. W itself is defined for any number by
the same weights, and it is W that is wanted here: nothing changes above 5,000.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri

from wire import Array

_LAST = (-2.706056, 4.434685, -2.071190, -0.147981, 0.221157, 0.0)  # in 1 / sqrt(n), highest power first
_LAST_BUT_ONE = (-3.582633, 5.682633, -1.752461, -0.293762, 0.042981, 0.0)
_GROWTH = 1.001  # of the square of the scale with the size of the sample, from 32 on


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


class Least:
    """A bound that W of a sample cannot fall under, whatever some of its values are.

    W is ``b^2 / SS``. Let the sample be ``core``, n values, and some of the doubtful ones, N values with all of
    them. Its SS is at most that of all. In b the weights do not decrease with the order of the values, so b can
    only fall if the doubtful ones move to the middle, where they add nothing negative, and leave the outer places
    to ``core``. There the weights are those of a sample of between n and N values. The expected order statistics
    increase with its size; the square of their scale grows by at most ``_GROWTH`` a value; and the two outer
    weights decrease, but less than the root of the size grows.
    """

    def __init__(self, core: Array, doubtful: Array) -> None:
        """Takes the first doubtful values.

        Args:
            core: Values that are surely in the sample, sorted, ``(n,)``.
            doubtful: Others that may be in it, ``(q,)``.
        """
        self._sure, self._all = len(core), len(core) + len(doubtful)
        self._middle = self._total = self._squares = 0.0
        if not self.useful:
            return
        half, scale = weights(self._sure)
        ranges = core[: -len(half) - 1 : -1] - core[: len(half)]
        self._inner, self._scale_squared = _dot(half[2:], ranges[2:]) * scale, scale * scale
        self._outer = _dot(half[:2], ranges[:2])
        self._middle = float(core[self._sure // 2])
        inner, outer = core - self._middle, doubtful - self._middle
        self._total = float(inner.sum()) + float(outer.sum())
        self._squares = _dot(inner, inner) + _dot(outer, outer)

    @property
    def useful(self) -> bool:
        """Whether so few values are doubtful that the bound is worth having."""
        return self._sure >= 32 and 9 * self._sure >= 8 * self._all

    def doubt(self, value: float) -> None:
        """Takes another doubtful value."""
        value -= self._middle
        self._all += 1
        self._total += value
        self._squares += value * value

    def bound(self) -> float:
        """Returns the bound, 0 where it is not useful."""
        if not self.useful:
            return 0.0
        spread = self._squares - self._total * self._total / self._all
        if spread <= 1e-6 * self._squares:  # too little is left to trust
            return 0.0
        scale = math.sqrt(self._scale_squared + _GROWTH * (self._all - self._sure))
        b = self._inner / scale + self._outer * math.sqrt(self._sure / self._all)
        return (1 - 1e-9) * b * b / spread


def _polynomial(coefficients: Iterable[float], x: float) -> float:
    value = 0.0
    for coefficient in coefficients:
        value = value * x + coefficient
    return value


def _dot(x: Array, y: Array) -> float:
    """Returns ``x @ y``; BLAS would wake threads for it and round as their number has it."""
    return float((x * y).sum())
