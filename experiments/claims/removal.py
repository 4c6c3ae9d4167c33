"""Changes by which a thief may remove watermarks from a stolen model."""

from __future__ import annotations

import copy
from typing import cast

import numpy as np
import torch

from wire import Array
from zoo.data import Pool
from zoo.families import Architecture
from zoo.network import Network
from zoo.training import Training


@torch.no_grad()
def pruned(network: Network, share: float) -> Network:
    """Returns the network with the smallest weights of each layer set to zero, a ``share`` of them."""
    changed = copy.deepcopy(network)
    for layer in _layers(changed):
        sizes = layer.weight.abs().flatten()  # in the order of the shape, whatever the layout in memory
        kept = torch.ones_like(sizes)
        kept[sizes.topk(round(share * len(sizes)), largest=False).indices] = 0
        layer.weight *= kept.reshape(layer.weight.shape)
    return changed


@torch.no_grad()
def shaken(network: Network, level: float, rng: np.random.Generator) -> Network:
    """Returns the network with Gaussian noise on each layer's weights, ``level`` times their deviation."""
    changed = copy.deepcopy(network)
    for layer in _layers(changed):
        noise = torch.from_numpy(rng.standard_normal(layer.weight.shape, np.float32)).to(layer.weight.device)
        layer.weight += level * layer.weight.std() * noise
    return changed


def tuned(network: Network, pool: Pool, training: Training, seed: int, *, last: bool, fresh: bool) -> Network:
    """Goes on training a copy, on labelled rows.

    Args:
        network: The network.
        pool: The rows.
        training: The training.
        seed: Seed of the new weights and the order.
        last: Whether only the last layer is trained, or all are.
        fresh: Whether the last layer begins anew.
    """
    changed = copy.deepcopy(network)
    layers = [layer for layer in changed.module.modules() if isinstance(layer, torch.nn.Linear)]
    if fresh:
        other = Network.untrained(cast(Architecture, network.family), network.card(), seed=seed + 1)
        latest = [layer for layer in other.module.modules() if isinstance(layer, torch.nn.Linear)][-1]
        layers[-1].load_state_dict(latest.state_dict())
    if last:
        changed.module.requires_grad_(False)
        layers[-1].requires_grad_(True)
    assert pool.y is not None
    changed.fit(pool.x, pool.y, training, seed=seed, label="tune")
    changed.module.requires_grad_(True)
    return changed


@torch.no_grad()
def quantised(network: Network, bits: int) -> Network:
    """Returns the network with the weights of each layer rounded to ``2^bits`` even steps."""
    changed = copy.deepcopy(network)
    for weights in changed.module.parameters():
        step = (weights.max() - weights.min()) / (2**bits - 1)
        if step > 0:
            weights.copy_(torch.round((weights - weights.min()) / step) * step + weights.min())
    return changed


def shifted(x: Array, pixels: int, rng: np.random.Generator) -> Array:
    """Moves each image, ``(n, c, h, w)``, by up to ``pixels`` in each direction; edges are filled with zeros."""
    edges = ((0, 0), (0, 0), (pixels, pixels), (pixels, pixels))
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(x, edges), x.shape[2:], axis=(2, 3))
    down, right = rng.integers(0, 2 * pixels + 1, (2, len(x)))
    return np.ascontiguousarray(windows[np.arange(len(x)), :, down, right])


def noisy(x: Array, level: float, rng: np.random.Generator) -> Array:
    """Adds uniform noise to features from 0 to 1, as DAWN's authors do to marked rows before they query them.

    Source: ``noisy_verification.py`` of their repository, whose features are from -1 to 1.
    """
    noise = rng.random(x.shape, np.float32) - np.float32(0.5)
    made: Array = np.clip(x + np.float32(level) * noise, 0, 1)
    return made


def _layers(network: Network) -> list[torch.nn.Conv2d | torch.nn.Linear]:
    return [layer for layer in network.module.modules() if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear)]
