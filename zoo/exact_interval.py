"""The exact confidence interval of a rate.

Source: Clopper and Pearson, "The Use of Confidence or Fiducial Limits Illustrated in the Case of the Binomial",
Biometrika 26, 1934.
"""

from __future__ import annotations

from typing import NamedTuple

from scipy.special import betaincinv


class Interval(NamedTuple):
    """A rate and the two ends of its confidence interval, all between 0 and 1."""

    rate: float
    low: float
    high: float


def exact_interval(hits: int, trials: int, confidence: float = 0.95) -> Interval:
    """Returns ``hits / trials`` with its two-sided Clopper-Pearson interval.

    The upper end alone is a one-sided bound with confidence ``(1 + confidence) / 2``.

    Args:
        hits: Number of successes, from 0 to ``trials``.
        trials: Number of trials, at least 1.
        confidence: Confidence level, between 0 and 1.

    Raises:
        ValueError: There are no trials, or ``hits`` or ``confidence`` is out of range.
    """
    if not 0 <= hits <= trials or trials < 1 or not 0 < confidence < 1:
        raise ValueError(
            f"{hits} hits in {trials} trials at confidence {confidence}: expected at least one trial, "
            "0 <= hits <= trials and 0 < confidence < 1"
        )
    error = (1 - confidence) / 2
    low = betaincinv(hits, trials - hits + 1, error) if hits else 0.0
    high = betaincinv(hits + 1, trials - hits, 1 - error) if hits < trials else 1.0
    return Interval(hits / trials, float(low), float(high))
