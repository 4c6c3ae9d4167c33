"""Blurs the answers of the attacker's own models as the victim's policy blurs the victim's.

A model's card tells the policy: temperature, noise, number of classes, digits. A foreign server's card may tell
nothing; then classes and digits are read off its answers.
"""

from __future__ import annotations

import numpy as np

from wire import Answer, Array, Card, Labels

DECIMALS = range(1, 8)  # float32 has no more


def blurred(probs: Array, card: Card, like: Answer, rng: np.random.Generator) -> Answer:
    """Returns what a victim would tell if these were its probabilities.

    Args:
        probs: Probabilities, ``(n, k)`` float32.
        card: The victim's card.
        like: Answers of the victim, of which a policy that the card does not tell is read off.
        rng: Source of the noise.
    """
    labels: Labels = probs.argmax(axis=1).astype(np.int64)
    if like.probs is None:
        return Answer(labels)
    values = probs.astype(np.float64)
    if card.temperature is not None:
        values = np.exp((np.log(np.maximum(values, 1e-45)) - np.log(values.max(1))[:, None]) / card.temperature)
        values /= values.sum(axis=1, keepdims=True)
    if card.noise is not None:
        values = values + rng.normal(0, card.noise, values.shape)
        labels = values.argmax(axis=1)
        values = np.maximum(values, 0)
        values /= np.maximum(values.sum(axis=1, keepdims=True), 1e-45)
    digits = card.digits if card.digits is not None else _digits(like.probs)
    rank = (-values).argsort(axis=1, kind="stable").argsort(axis=1)
    told = np.where(rank < np.isfinite(like.probs).sum(axis=1).max(), values, np.nan)
    return Answer(labels, (told if digits is None else told.round(digits)).astype(np.float32))


def _digits(probs: Array) -> int | None:
    """Returns to how many decimals probabilities are rounded; None if to more than :data:`DECIMALS`."""
    inside = probs[(probs > 0) & (probs < 1)]
    whole = (d for d in DECIMALS if np.allclose(inside, inside.round(d), rtol=0, atol=1e-7))
    return next(whole, None) if len(inside) else None
