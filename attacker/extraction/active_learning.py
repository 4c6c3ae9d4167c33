"""Criteria of active learning for unlabelled rows: uncertainty, coverage, and the distance to a boundary."""

from __future__ import annotations

import numpy as np

from wire import Array
from zoo.network import Network


def entropy(probs: Array) -> Array:
    """Returns the entropy of distributions, ``(n, k)``; Lewis, Gale, "A Sequential Algorithm", SIGIR 1994."""
    found: Array = -(probs * np.log(np.maximum(probs, 1e-12))).sum(axis=1)
    return found


def k_center(points: Array, centers: Array, n: int) -> Array:
    """Returns the indices of ``n`` points, each the farthest from the centers and the points before it.

    Source: Sener, Savarese, "Active Learning for Convolutional Neural Networks: A Core-Set Approach", ICLR 2018,
    algorithm 1.

    Args:
        points: Points, ``(m, k)``.
        centers: Initial centers, ``(c, k)``, at least one.
        n: Number of points to choose; all of them if there are fewer.
    """
    squares = (points**2).sum(axis=1)[:, None] + (centers**2).sum(axis=1) - 2 * points @ centers.T
    distances, chosen = squares.min(axis=1), list[int]()
    for _ in range(min(n, len(points))):
        chosen.append(int(distances.argmax()))
        distances = np.minimum(distances, ((points - points[chosen[-1]]) ** 2).sum(axis=1))
        distances[chosen[-1]] = -np.inf
    return np.array(chosen, np.int64)


def deepfool(network: Network, x: Array, steps: int) -> Array:
    """Returns the length of the perturbations with which DeepFool tries to change the class of rows, ``(n,)``.

    Source: Moosavi-Dezfooli, Fawzi, Frossard, "DeepFool", CVPR 2016, algorithm 2.
    """
    moved, labels = x.copy(), network.logits(x).argmax(axis=1)
    still = np.arange(len(x))
    for _ in range(steps):
        if not len(still):
            break
        logits, every = network.logits(moved[still]), range(network.classes)
        slopes = np.stack([network.gradient(moved[still], np.full(len(still), k)) for k in every], axis=1)
        at = np.arange(len(still)), labels[still]
        gaps, slopes = np.abs(logits - logits[at][:, None]), slopes - slopes[at][:, None]
        lengths = np.sqrt((slopes.reshape(len(still), network.classes, -1) ** 2).sum(axis=2))
        distances = np.where(lengths > 0, gaps / np.maximum(lengths, 1e-12), np.inf)
        distances[at] = np.inf
        nearest = np.arange(len(still)), distances.argmin(axis=1)
        share = (distances[nearest] + 1e-4) / np.maximum(lengths[nearest], 1e-12)
        moved[still] += slopes[nearest] * share.reshape(-1, *[1] * (x.ndim - 1)).astype(np.float32)
        still = still[network.logits(moved[still]).argmax(axis=1) == labels[still]]
    perturbation: Array = np.sqrt(((moved - x).reshape(len(x), -1) ** 2).sum(axis=1))
    return perturbation
