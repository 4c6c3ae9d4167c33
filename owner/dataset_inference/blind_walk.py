"""The Blind Walk: measures the distance along random directions at which a served model's label becomes wrong.

Source: Maini, Yaghini, Papernot, "Dataset Inference: Ownership Resolution in Machine Learning", ICLR 2021,
"Embedding Generation" (black box). Special cases at the start and end of a walk follow the authors' code.
"""

from __future__ import annotations

import numpy as np

from wire import Array, Card, Labels, Oracle

#: The noise distributions, each with the order of the norm for its distances.
NORMS = {"uniform": np.inf, "gaussian": 2, "laplace": 1}


def box(card: Card) -> tuple[float, float, float]:
    """Returns the lower and upper bound of a feature, and the unit of the noise scales.

    The scales are meant for features in [0, 1]; the unit is the width of the card's range, or 1 if it is
    unbounded.
    """
    low = -np.inf if card.low is None else card.low
    high = np.inf if card.high is None else card.high
    return low, high, high - low if np.isfinite(high - low) else 1.0


def directions(
    shape: tuple[int, int, int], uniform: float, gaussian: float, laplace: float, rng: np.random.Generator
) -> Array:
    """Draws the first step of every walk.

    Args:
        shape: Number of images n, of starts s, and of features d.
        uniform: Half width of the uniform noise.
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
    """Walks from every image along all of its directions, in lockstep, until the label is wrong.

    Step k queries ``x + k * delta``, clipped to the card's box, for every unfinished walk. A walk stops when the
    label is not the true one. For an image that the model misclassifies anyway, this is usually at the first step,
    and the distance is that of one ``delta``. A walk that never reaches a wrong label gets the distance of
    ``most_steps + 1`` steps, although that step is not queried.

    Args:
        oracle: The model; only its labels are used.
        x: Images, ``(n, *input_shape)``.
        y: True labels of the images, ``(n,)``.
        delta: First steps, ``(n, s, 3, d)``, in the order of :data:`NORMS`.
        most_steps: Maximum number of steps of a walk.

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
