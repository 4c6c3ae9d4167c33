"""MinGD: how far an image is from each class, by the gradients of a model whose weights are known.

Source: Maini, Yaghini, Papernot, "Dataset Inference: Ownership Resolution in Machine Learning", ICLR 2021, section
4.1 (white box). Step sizes and the end of a walk follow the authors' code (``cleverhans-lab/dataset-inference``,
commit 24baf46: ``src/attacks.py``).
"""

from __future__ import annotations

import numpy as np
from tqdm import tqdm

from owner.dataset_inference.blind_walk import NORMS
from wire import Array
from zoo.network import Network


def min_gd(network: Network, x: Array, most_steps: int = 500) -> Array:
    """Walks by gradients from every image to every class, in lockstep, until the model says that class.

    Args:
        network: The model, with its weights (white box); its features lie in [0, 1].
        x: Images, ``(n, *input_shape)``.
        most_steps: Maximum number of steps of a walk.

    Returns:
        The distances, ``(n, k, 3)``, in the order of :data:`~owner.dataset_inference.blind_walk.NORMS`, each
        norm's sorted over classes.
    """
    n, k = len(x), network.classes
    start, target = x.reshape(n, -1).repeat(k, axis=0), np.tile(np.arange(k), n)
    distances = np.empty((n, k, len(NORMS)))
    for norm, (order, step) in enumerate(zip(NORMS.values(), STEPS, strict=True)):
        at, going = start.copy(), np.arange(n * k)
        for _ in tqdm(range(most_steps), desc=f"MinGD, norm {order}", unit="step", leave=False):
            margin = network.gradient(at[going].reshape(-1, *x.shape[1:]), target[going], of="margin")
            gradient = margin.reshape(len(going), -1)
            moving = gradient.any(axis=1)  # the margin of the model's own label is constant
            going, gradient = going[moving], gradient[moving]
            if not len(going):
                break
            at[going] = np.clip(at[going] + step(gradient, at[going]), 0, 1)
        distances[..., norm] = np.linalg.norm(at - start, order, axis=1).reshape(n, k)
    return np.sort(distances, axis=1)


def _signs(gradient: Array, at: Array) -> Array:
    return 0.001 * np.sign(gradient)


def _unit(gradient: Array, at: Array) -> Array:
    return np.asarray(0.01 * gradient / (np.linalg.norm(gradient, axis=1, keepdims=True) + 1e-12))


def _greatest(gradient: Array, at: Array, most: int = 100, gap: float = 0.001) -> Array:
    """Steps along the greatest 100 coordinates; those at 0 or 1 stay there, as in the authors' code."""
    stuck = (at <= gap) & (gradient < 0) | (at >= 1 - gap) & (gradient > 0) | (at <= 0) | (at >= 1)
    free = np.where(stuck, 0, gradient)
    most = min(most, free.shape[1])
    least = np.partition(np.abs(free), -most, axis=1)[:, -most]
    return np.where(np.abs(free) >= least[:, None], np.sign(free), 0) / most


STEPS = (_signs, _unit, _greatest)  # in the order of NORMS
