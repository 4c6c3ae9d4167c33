"""How much of its probabilities a model tells, read off its answers, and the same done to one's own models."""

from __future__ import annotations

import numpy as np

from wire import Answer, Array

DECIMALS = range(5)  # rounding to more digits than these is no matter


def disclose(probs: Array, like: Answer) -> Answer:
    """Tells as much of some probabilities as another model's answer tells of its own.

    Args:
        probs: Full probabilities, ``(n, k)``.
        like: An answer that shows the policy: labels only, the k greatest, or rounded.

    Returns:
        The answer about the ``n`` rows under that policy.
    """
    labels = probs.argmax(axis=1).astype(np.int64)
    if like.probs is None:
        return Answer(labels)
    seen = np.isfinite(like.probs)
    values = like.probs[seen]
    digits = next((d for d in DECIMALS if np.allclose(values, np.round(values, d), rtol=0, atol=1e-6)), None)
    rank = (-probs).argsort(axis=1).argsort(axis=1)
    told = probs if digits is None else np.round(probs, digits)
    return Answer(labels, np.where(rank < seen.sum(axis=1).max(), told, np.nan).astype(np.float32))


def features(answer: Answer, classes: int) -> Array:
    """Makes full vectors, ``(n, k)`` float32, of what was told: withheld probabilities are 0, a label one-hot."""
    if answer.probs is None:
        return np.eye(classes, dtype=np.float32)[answer.labels]
    return np.nan_to_num(answer.probs)
