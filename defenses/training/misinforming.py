"""Trains the model that misinforms.

Source: Kariyappa, Qureshi, "Defending Against Model Stealing Attacks with Adaptive Misinformation", CVPR 2020,
section 4.3 (reverse cross-entropy).
"""

from __future__ import annotations

import torch

from wire import BadInput
from zoo.data.pool import Pool
from zoo.families import Architecture
from zoo.network import Network
from zoo.training import Training


def misinforming(family: Architecture, pool: Pool, training: Training, *, seed: int) -> Network:
    """Returns a network that avoids the true class of the victim's rows.

    It minimises ``-log(1 - p_y)`` for the true class y.

    Args:
        family: Its family.
        pool: Labelled rows of the victim's distribution.
        training: Training parameters.
        seed: Seed of weights and order.

    Raises:
        BadInput: The rows have no labels.
    """
    if pool.y is None:
        raise BadInput("the model that misinforms is trained away from true labels, and the rows have none")
    network = Network.new(family, pool.input_shape, pool.class_names, seed=seed)
    return network.fit(pool.x, pool.y, training, seed=seed, label="misinforming", loss=reverse_cross_entropy)


def reverse_cross_entropy(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Returns the mean of ``-log(1 - p_y)`` over rows with logits ``(n, k)`` and classes ``(n,)``."""
    others = torch.scatter(logits, 1, y[:, None], -torch.inf)
    return (logits.logsumexp(1) - others.logsumexp(1)).mean()
