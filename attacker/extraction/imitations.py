"""Defences as a thief imitates them, written from the papers, without any code of the server.

Source: Tang et al., "ModelGuard: Information-Theoretic Defense Against Model Extraction Attacks", USENIX Security
2024, section 7 (attackers who know the defence and its parameters); the defences' own papers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
from scipy.special import expit, logit

from wire import Array

Defence = Literal["noise", "rounding", "top_k", "flips", "reverse_sigmoid", "deceive", "bounded", "misinformation"]
Imitation = Callable[[Array, float, np.random.Generator], Array]
"""From probabilities ``(n, k)``, the defence's strength, and a source of randomness to what would be told."""


def noise(y: Array, strength: float, rng: np.random.Generator) -> Array:
    """Adds normal noise of standard deviation ``strength``."""
    return _normalised(y + rng.normal(0, strength, y.shape))


def rounding(y: Array, strength: float, rng: np.random.Generator) -> Array:
    """Rounds to ``strength`` digits."""
    return _normalised(np.round(y, int(strength)))


def top_k(y: Array, strength: float, rng: np.random.Generator) -> Array:
    """Spreads what the ``strength`` greatest probabilities leave evenly over the other classes."""
    k = min(int(strength), y.shape[1])
    kept = (-y).argsort(axis=1).argsort(axis=1) < k
    rest = np.where(kept, 0, y).sum(axis=1, keepdims=True) / max(y.shape[1] - k, 1)
    return np.where(kept, y, rest)


def flips(y: Array, strength: float, rng: np.random.Generator) -> Array:
    """Exchanges the greatest probability for another, in a share ``strength`` of the rows."""
    told, rows = y.copy(), np.flatnonzero(rng.random(len(y)) < strength)
    label = y[rows].argmax(axis=1)
    other = (label + rng.integers(1, y.shape[1], len(rows))) % y.shape[1]
    told[rows, label], told[rows, other] = y[rows, other], y[rows, label]
    return told


def reverse_sigmoid(y: Array, strength: float, rng: np.random.Generator) -> Array:
    """Subtracts ``strength (sigmoid(gamma logit(y)) - 1/2)`` with gamma = 0.2 (Lee et al., SPW 2019)."""
    return _normalised(y - strength * (expit(0.2 * logit(np.clip(y, 1e-7, 1 - 1e-7))) - 0.5))


def deceive(y: Array, strength: float, rng: np.random.Generator) -> Array:
    """Shuffles the three greatest probabilities, in a share ``strength`` of the rows."""
    told, rows = y.copy(), np.flatnonzero(rng.random(len(y)) < strength)
    top = (-y[rows]).argsort(axis=1)[:, :3]
    mixed = rng.permuted(top, axis=1)
    np.put_along_axis(told[rows], top, 0, 1)
    told[rows[:, None], top] = y[rows[:, None], mixed]
    return told


def bounded(y: Array, strength: float, rng: np.random.Generator) -> Array:
    """Moves half of ``strength`` from the label to another class at random, as MAD and ModelGuard-W may."""
    rows, label = np.arange(len(y)), y.argmax(axis=1)
    other = (label + rng.integers(1, y.shape[1], len(y))) % y.shape[1]
    told, moved = y.copy(), np.minimum(strength / 2, y[rows, label])
    told[rows, label] -= moved
    told[rows, other] += moved
    return told


def misinformation(y: Array, strength: float, rng: np.random.Generator) -> Array:
    """Replaces answers whose greatest probability is below ``strength`` by random ones (Kariyappa 2020)."""
    wrong = rng.dirichlet(np.full(y.shape[1], 0.3), len(y))
    return np.where(y.max(axis=1, keepdims=True) < strength, wrong, y)


IMITATIONS: Mapping[Defence, Imitation] = {
    "noise": noise,
    "rounding": rounding,
    "top_k": top_k,
    "flips": flips,
    "reverse_sigmoid": reverse_sigmoid,
    "deceive": deceive,
    "bounded": bounded,
    "misinformation": misinformation,
}


def _normalised(values: Array) -> Array:
    positive = np.maximum(values, 1e-9)
    shares: Array = positive / positive.sum(axis=1, keepdims=True)
    return shares
