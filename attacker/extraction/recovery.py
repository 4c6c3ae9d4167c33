"""Recovers a victim's answers from what a defence told of them.

Both methods need pairs: an answer before and after the defence changed it. A thief makes them from the answers of
his own models, which he changes as he expects the defence to.

Source: partial Bayes: Tang et al., "ModelGuard", USENIX Security 2024, section 4. D-DAE: Chen et al., "D-DAE:
Defense-Penetrating Model Extraction Attacks", IEEE S&P 2023, section IV (the recovery network).
"""

from __future__ import annotations

import numpy as np
from torch import nn

from wire import Array
from zoo.families.mlp import Mlp
from zoo.network import Network
from zoo.training import Training


def partial_bayes(told: Array, answers: Array, changed: Array, *, nearest: int = 10) -> Array:
    """Returns the mean of the answers whose changed forms are nearest to what was told.

    This estimates ``E[y | y']`` without a model of the density. Told and changed answers are compared after their
    classes are put in the same order, the most probable first, so that few pairs stand for all labels.

    Args:
        told: What was told, ``(n, k)``.
        answers: Answers by models of the thief's own, ``(m, k)``.
        changed: What the defence would make of them, ``(m, k)``.
        nearest: Number of pairs that are averaged.
    """
    order, known = ((-part).argsort(axis=1, kind="stable") for part in (told, changed))
    ranked, keys = np.take_along_axis(told, order, 1), np.take_along_axis(changed, known, 1)
    values = np.take_along_axis(answers, known, 1)
    recovered = np.empty_like(told)
    for start in range(0, len(told), 500):
        part = slice(start, start + 500)
        far = (keys**2).sum(axis=1) - 2 * ranked[part] @ keys.T
        close = np.argpartition(far, min(nearest, len(keys)) - 1, axis=1)[:, :nearest]
        mean = values[close].mean(axis=1)
        np.put_along_axis(recovered[part], order[part], mean, 1)
    return recovered


def d_dae(told: Array, answers: Array, changed: Array, *, epochs: int = 30, seed: int = 0) -> Array:
    """Returns what a network makes of what was told, which learnt the answers from their changed forms.

    Args:
        told: What was told, ``(n, k)``.
        answers: Answers by models of the thief's own, ``(m, k)``.
        changed: What the defence would make of them, ``(m, k)``.
        epochs: Passes over the pairs.
        seed: Seed of the network and of its training.
    """
    names = tuple(map(str, range(told.shape[1])))
    network = Network.new(Mlp((64, 64)), told.shape[1:], names, seed=seed)
    network.fit(_logs(changed), answers, Training(epochs, 128, 2e-3), seed=seed, label="recovery")
    recovered: Array = network.predict(_logs(told))
    return recovered


def _logs(y: Array) -> Array:
    logs: Array = np.log(np.maximum(y, 1e-6)).astype(np.float32)
    return logs


def smoothed_loss(share: float) -> nn.Module:
    """Returns a cross-entropy that expects a share of the answers to be wrong (label smoothing)."""
    return nn.CrossEntropyLoss(label_smoothing=share)


def likely(told: Array, guess: Array, share: float) -> Array:
    """Returns which rows to keep, ``(n,)`` bool: all but the share that a surrogate contradicts the most.

    Marks and flips are wrong for the surrogate that learnt from the others.

    Args:
        told: What was told, ``(n, k)``.
        guess: The surrogate's answers, ``(n, k)``.
        share: Share of rows to drop.
    """
    loss = -(told * np.log(np.maximum(guess, 1e-7))).sum(axis=1)
    kept = np.zeros(len(told), bool)
    kept[np.argsort(loss, kind="stable")[: len(told) - round(share * len(told))]] = True
    return kept
