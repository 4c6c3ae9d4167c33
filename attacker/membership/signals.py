"""Signals that membership attacks compare, each from one answer about one row."""

from __future__ import annotations

import numpy as np

from attacker.extraction.targets import targets
from wire import Answer, Array, Labels

LEAST = 1e-38  # float32's least normal number


def log_odds(answer: Answer, y: Labels, classes: int) -> Array:
    """Returns the logarithm of the odds of the true label, log p_y - log(sum of the other p), ``(n,)`` float64.

    The odds tell rows apart whose p_y rounds to 1 in float32. A probability of 0 (rounded, or clipped after noise)
    counts as the least one that the answer tells; mass that top-k withholds is spread over the withheld classes.

    Source: Carlini et al., "Membership Inference Attacks From First Principles", IEEE S&P 2022, section IV-C.

    Args:
        answer: The answer about ``n`` rows.
        y: The true labels, ``(n,)``.
        classes: Number of classes.
    """
    probs = targets(answer, classes).astype(np.float64)
    least, rows = _least(probs), np.arange(len(probs))
    true = probs[rows, y]
    probs[rows, y] = 0
    odds: Array = np.log(np.maximum(true, least)) - np.log(np.maximum(probs.sum(axis=1), least))
    return odds


def margin(answer: Answer, y: Labels, classes: int) -> Array:
    """Returns the margin of the true label, log p_y - max log of the other p, ``(n,)`` float64.

    It is the margin of the logits. Source: Bertran et al., "Scalable Membership Inference Attacks via Quantile
    Regression", NeurIPS 2023, section 3.

    Args:
        answer: The answer about ``n`` rows.
        y: The true labels, ``(n,)``.
        classes: Number of classes.
    """
    logs, rows = log_probs(answer, classes), np.arange(len(y))
    true = logs[rows, y]
    logs[rows, y] = -np.inf
    return np.asarray(true - logs.max(axis=1))


def log_probs(answer: Answer, classes: int) -> Array:
    """Returns the logarithm of all probabilities, ``(n, k)`` float64, with the same least probability.

    If only labels are told, it is 0 for the label and -1 for all other classes.
    """
    if answer.probs is None:
        return np.asarray(np.eye(classes)[answer.labels] - 1)
    probs = targets(answer, classes).astype(np.float64)
    return np.asarray(np.log(np.maximum(probs, _least(probs))))


def _least(probs: Array) -> float:
    """Returns the least probability that is told and not rounded to 0 or 1; see :func:`log_odds`."""
    told = probs[(probs > 0) & (probs < 1)]
    return max(LEAST, float(told.min())) if len(told) else LEAST


def right(answer: Answer, y: Labels) -> Array:
    """Returns 1 for each row whose label is the true one, else 0, ``(n,)`` float64."""
    return np.asarray(answer.labels == y, np.float64)
