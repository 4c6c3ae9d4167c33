"""Solves for what the leaves of several trees add, where their splits are known."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.sparse import csr_array
from scipy.sparse.linalg import lsqr

from wire import Array, Card
from zoo.families.gbdt import Gbdt
from zoo.families.trees import Forest, Trees
from zoo.network import Network
from zoo.tensors import Tensors

LEAST = 1e-6
"""Added to a forest's probabilities, which rounding may make negative; keeps their logarithm finite."""


def summed(tensors: Tensors, rows: Array, probs: Array, card: Card) -> Network:
    """Returns the forest, or the boosted trees, whose leaves add up to the answers.

    The probabilities of a forest are the sum of its leaves' shares, and the logits of boosted trees the sum of
    their leaves' values, up to a constant of each row. Both are linear equations; the kind of model is the one
    that solves its own better.

    Args:
        tensors: A table of trees, of which the values are not used.
        rows: Rows that were answered, ``(n, d)``.
        probs: Their probabilities, ``(n, k)``; rows with a withheld one are left out.
        card: Card of the surrogate.
    """
    known = ~np.isnan(probs).any(axis=1)
    rows, probs = rows[known], probs[known].astype(np.float64)
    module = Trees(tensors, features=math.prod(card.input_shape), classes=card.classes, log=False)
    node = (module.leaves(torch.from_numpy(rows)) + module.root).numpy()  # (n, trees)
    ones = np.ones(node.size), node.ravel(), np.arange(0, node.size + 1, node.shape[1])
    design = csr_array(ones, shape=(len(rows), len(tensors["feature"])))
    positive = np.flatnonzero((probs > 0).all(axis=1))
    logits = np.log(probs[positive])
    shares, values = _solved(design, probs), _solved(design[positive], logits - logits.mean(axis=1, keepdims=True))
    gap = np.abs(np.maximum(design @ shares, 0) - probs).max(initial=0)
    boosted = np.exp(design @ values)
    if np.abs(boosted / boosted.sum(axis=1, keepdims=True) - probs).max(initial=0) < gap:
        return Gbdt().restore(card, {**tensors, "value": torch.from_numpy(values)}, device=None)
    base = torch.full_like(tensors["base"], LEAST)
    return Forest().restore(card, {**tensors, "value": torch.from_numpy(shares), "base": base}, device=None)


def _solved(design: csr_array, targets: Array) -> Array:
    """Solves for values, ``(nodes, k)``, by least squares, of all solutions the smallest."""
    columns = [lsqr(design, column, atol=1e-12, btol=1e-12, iter_lim=5000)[0] for column in targets.T]
    return np.stack(columns, axis=1)
