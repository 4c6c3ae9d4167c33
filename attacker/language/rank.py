"""The rank of a matrix that is known with noise."""

from __future__ import annotations

import numpy as np

from wire import Array


def above_noise(s: Array, p: int, t: int) -> int | None:
    """Returns how many singular values of a matrix ``(p, t)`` stand above its noise; None if none or all do.

    Before their last tenth, a fall to less than a hundredth is the end of the rank. With more noise, a fall by
    more than a factor e is no noise, and the rest is noise once its first value does not exceed the edge of
    Marchenko and Pastur's law for the variance of the rest by more than a quarter. Rounding is not quite white, so
    right after a fall a factor of 2 will do.
    """
    falls = -np.diff(np.log(np.maximum(s, np.finfo(float).tiny)))[: -max(3, len(s) // 10)]
    if (falls > np.log(100)).any():
        return int(np.flatnonzero(falls > np.log(100))[-1]) + 1
    start = int(np.flatnonzero(falls > 1)[-1]) + 1 if (falls > 1).any() else 0
    rest = np.cumsum((s**2)[::-1])[::-1]
    for r in range(start, len(s) - 2):
        edge = np.sqrt(rest[r] / ((p - r) * (t - r))) * (np.sqrt(p - r) + np.sqrt(t - r))
        if s[r] <= (2 if r == start > 0 else 1.25) * edge:
            return r or None
    return None
