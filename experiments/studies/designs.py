"""Queries that are made, rather than found, where the M + 1 models of a lottery disagree.

``copies`` is the rule of the twin test: the most disputed reference rows, and near copies of them. ``mixed`` has
8,000 mixtures of two such rows in place of the copies, the most disputed ones of 24,000. ``climbed`` moves these
mixtures up the gradient of the models' disagreement. All M + 1 models have the same part in all of this, so the
victim's rank stays exact.

Source: this project. Mixtures are those of Zhang, Cisse, Dauphin, Lopez-Paz, "mixup: Beyond Empirical Risk
Minimization", ICLR 2018; the gradient of disagreement is that of query by committee (Seung, Opper, Sompolinsky,
COLT 1992), of all members alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch

from owner.twin_test import dispute
from wire import Array

Design = Literal["copies", "mixed", "climbed"]

CANDIDATES, KEPT, PARENTS = 24_000, 8_000, 4_000
WEIGHTS = (0.3, 0.7)  # of the first of two rows
STEPS, STEP = 8, 0.4  # of the climb; the length of a step in the Euclidean norm, for features from 0 to 1
PASS = 500


def mixed(reference: Array, labels: Array, predict: Callable[[Array], Array]) -> Array:
    """Returns mixtures of two disputed rows each: those about which the models disagree most.

    Args:
        reference: Rows that trained none of the models, ``(n, ...)``.
        labels: The models' labels of these, ``(M + 1, n)``.
        predict: Maps rows to the models' probabilities, ``(M + 1, n, k)``.
    """
    rng, classes = np.random.default_rng(0), int(labels.max()) + 1
    parents = np.argsort(-dispute(labels, classes), kind="stable")[:PARENTS]
    first, second = rng.choice(parents, (2, CANDIDATES))
    weight = rng.uniform(*WEIGHTS, CANDIDATES).astype(np.float32).reshape(-1, *[1] * (reference.ndim - 1))
    x = weight * reference[first] + (1 - weight) * reference[second]
    disputed = dispute(predict(x).argmax(axis=2), classes)
    return np.asarray(x[np.argsort(-disputed, kind="stable")[:KEPT]])


def climbed(x: Array, modules: Sequence[Callable[[torch.Tensor], torch.Tensor]]) -> Array:
    """Moves rows to where the models' probabilities differ more from their mean.

    Args:
        x: Rows with features from 0 to 1, ``(n, ...)``.
        modules: The models, from rows to logits.
    """
    moved = []
    for part in torch.split(torch.from_numpy(x), PASS):
        rows = part
        for _ in range(STEPS):
            rows = rows.detach().requires_grad_()
            probs = torch.stack([module(rows).softmax(1) for module in modules])
            spread = (probs - probs.mean(0)).square().sum()
            (gradient,) = torch.autograd.grad(spread, rows)
            length = gradient.flatten(1).norm(dim=1).clamp_min(1e-9).reshape(-1, *[1] * (rows.ndim - 1))
            rows = (rows + STEP * gradient / length).clamp(0, 1)
        moved.append(rows.detach())
    return torch.cat(moved).numpy()
