"""Infers a victim's disclosure policy from its answers, and applies it to the attacker's own models."""

from __future__ import annotations

import numpy as np

from wire import Answer, Array

DECIMALS = range(5)  # rounding to more decimals makes no difference


def disclose(probs: Array, like: Answer) -> Answer:
    """Reduces probabilities to what another model's answer discloses.

    Args:
        probs: Full probabilities, ``(n, k)``.
        like: An answer that shows the policy: labels only, the k largest probabilities, or rounded ones.

    Returns:
        The answer to the ``n`` rows under that policy.
    """
    labels = probs.argmax(axis=1).astype(np.int64)
    if like.probs is None:
        return Answer(labels)
    disclosed = np.isfinite(like.probs)
    values = like.probs[disclosed]
    digits = next((d for d in DECIMALS if np.allclose(values, np.round(values, d), rtol=0, atol=1e-6)), None)
    rank = (-probs).argsort(axis=1).argsort(axis=1)
    rounded = probs if digits is None else np.round(probs, digits)
    return Answer(labels, np.where(rank < disclosed.sum(axis=1).max(), rounded, np.nan).astype(np.float32))


def features(answer: Answer, classes: int) -> Array:
    """Makes full vectors, ``(n, k)`` float32: withheld probabilities become 0, a lone label one-hot."""
    if answer.probs is None:
        return np.eye(classes, dtype=np.float32)[answer.labels]
    return np.nan_to_num(answer.probs)
