"""The Blind Walk: how far random directions must be followed until a served model errs, by its labels alone.

Maini, Yaghini, Papernot, "Dataset Inference: Ownership Resolution in Machine Learning", ICLR 2021, "Embedding
Generation" (black box); the conventions where a walk begins or ends badly are those of the authors' code.
"""

from __future__ import annotations

import numpy as np

from wire import Array, Card, Labels, Oracle

#: The noises, each with the order of the norm in which its walks are measured.
NORMS = {"uniform": np.inf, "gaussian": 2, "laplace": 1}


def box(card: Card) -> tuple[float, float, float]:
    """Returns the least and the greatest value of a feature, and the unit of the noises' scales.

    The scales are meant for features in [0, 1]; the unit is the width of the card's range, or 1 if that is open.
    """
    low = -np.inf if card.low is None else card.low
    high = np.inf if card.high is None else card.high
    return low, high, high - low if np.isfinite(high - low) else 1.0


def directions(
    shape: tuple[int, int, int], uniform: float, gaussian: float, laplace: float, rng: np.random.Generator
) -> Array:
    """Draws the first step of every walk.

    Args:
        shape: Images n, starts s, and features d of an image.
        uniform: Half the width of the uniform noise.
        gaussian: Standard deviation of the Gaussian noise.
        laplace: Scale of the Laplace noise.
        rng: Source of randomness.

    Returns:
        The directions, ``(n, s, 3, d)`` float32, in the order of :data:`NORMS`.
    """
    n, starts, d = shape
    delta = np.empty((n, starts, len(NORMS), d), np.float32)
    delta[:, :, 0] = rng.uniform(-uniform, uniform, shape)
    delta[:, :, 1] = rng.normal(0.0, gaussian, shape)
    delta[:, :, 2] = rng.laplace(0.0, laplace, shape)
    return delta


def blind_walk(oracle: Oracle, x: Array, y: Labels, delta: Array, most_steps: int) -> Array:
    """Walks from every image along all of its directions, in lockstep, until the label is not the true one.

    Step k asks about ``x + k * delta``, clipped to the card's box, for every walk that still goes on, and for no
    other. A walk stops on "label is not the true label", which for an image that the model gets wrong anyway is
    mostly at its first step: the distance is then that of one ``delta``. A walk that never leaves the true label
    has the distance of ``most_steps + 1`` steps, though none is asked about there.

    Args:
        oracle: The model; only its labels are read.
        x: Images, ``(n, *input_shape)``.
        y: Their true labels, ``(n,)``.
        delta: First steps, ``(n, s, 3, d)``, in the order of :data:`NORMS`.
        most_steps: Most steps of a walk.

    Returns:
        The distances walked, ``(n, s, 3)``: norms of the final clipped ``k * delta``, in the model's units.
    """
    n, starts, noises, d = delta.shape
    walks = starts * noises
    low, high, _ = box(oracle.card)
    start, step = x.reshape(n, d), delta.reshape(n * walks, d)
    k = np.full(n * walks, most_steps + 1, np.float32)
    going = np.arange(n * walks)  # walk w belongs to image w // walks

    for now in range(1, most_steps + 1):
        rows = np.clip(start[going // walks] + np.float32(now) * step[going], low, high)
        off = oracle.query(rows.reshape(-1, *x.shape[1:])).labels != y[going // walks]
        k[going[off]] = now
        going = going[~off]
        if not len(going):
            break

    origin = start[:, None, None]
    moved = np.clip(origin + k.reshape(n, starts, noises, 1) * delta, low, high) - origin
    return np.stack(
        [np.linalg.norm(moved[:, :, i], order, axis=-1) for i, order in enumerate(NORMS.values())], axis=-1
    )
