"""Solves for what the leaves of several trees add, where their splits are known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.sparse import csr_array
from scipy.sparse.linalg import lsqr

from wire import Array, Card
from zoo.families.gbdt import Gbdt
from zoo.families.trees import Forest
from zoo.network import Network
from zoo.tensors import Tensors

LEAST = 1e-6
"""Added to a forest's probabilities, which rounding may make negative; keeps their logarithm finite."""


def summed(tensors: Tensors, nodes: Sequence[Array], leaves: Array, probs: Array, card: Card) -> Network:
    """Returns the forest, or the boosted trees, whose leaves add up to the answers.

    The probabilities of a forest are the sum of its leaves' shares, and the logits of boosted trees the sum of
    their leaves' values, up to a constant of each row. Both are linear equations; the kind of model is the one
    that solves its own better. The victim says which leaf a row reaches, so that thresholds that were located
    roughly do not matter.

    Args:
        tensors: A table of trees, of which the values are not used.
        nodes: For each tree, the victim's leaf in which each of its nodes lies, ``(nodes,)``, -1 if unknown.
        leaves: The leaves that rows reach, ``(n, trees)``, -1 where withheld; such rows are left out.
        probs: Their probabilities, ``(n, k)``; rows with a withheld one are left out.
        card: Card of the surrogate.
    """
    known = ~np.isnan(probs).any(axis=1) & (leaves >= 0).all(axis=1)
    leaves, probs = leaves[known, : len(nodes)], probs[known].astype(np.float64)
    counts = [int(max(leaves[:, t].max(initial=0), own.max(initial=0))) + 2 for t, own in enumerate(nodes)]
    starts = np.cumsum([0, *counts[:-1]]) + 1  # the first column of a tree stands for what is unknown
    place = leaves + starts
    ones = np.ones(place.size), place.ravel(), np.arange(0, place.size + 1, len(nodes))
    design = csr_array(ones, shape=(len(leaves), sum(counts)))
    at = np.concatenate([own + start for own, start in zip(nodes, starts, strict=True)])
    positive = np.flatnonzero((probs > 0).all(axis=1))
    logits = np.log(probs[positive])
    shares, values = _solved(design, probs), _solved(design[positive], logits - logits.mean(axis=1, keepdims=True))
    gap = np.abs(np.maximum(design @ shares, 0) - probs).max(initial=0)
    boosted = np.exp(design @ values)
    if np.abs(boosted / boosted.sum(axis=1, keepdims=True) - probs).max(initial=0) < gap:
        return Gbdt().restore(card, {**tensors, "value": torch.from_numpy(values[at])}, device=None)
    base = torch.full_like(tensors["base"], LEAST)
    return Forest().restore(card, {**tensors, "value": torch.from_numpy(shares[at]), "base": base}, device=None)


def _solved(design: csr_array, targets: Array) -> Array:
    """Solves for values, ``(nodes, k)``, by least squares, of all solutions the smallest."""
    columns = [lsqr(design, column, atol=1e-12, btol=1e-12, iter_lim=5000)[0] for column in targets.T]
    return np.stack(columns, axis=1)
