"""Near copies of images, which a model and its copies may tell from the original alike."""

from __future__ import annotations

import hashlib

import numpy as np

from wire import Array, Card

COPIES = 8


def near_copies(x: Array, card: Card) -> Array:
    """Returns eight near copies of each image: shifted by a pixel, of another contrast, and with noise.

    The noise is a function of the image, so that anyone derives the same copies.

    Args:
        x: Images, ``(n, c, h, w)``.
        card: The model's card, whose bounds the copies keep.

    Returns:
        The copies, ``(8 n, c, h, w)`` float32, those of an image together.
    """
    unit = 1.0 if card.low is None or card.high is None else card.high - card.low
    shifts = [np.roll(x, by, axis) for axis in (2, 3) for by in (1, -1)]
    noise = np.stack([_noise(row) for row in x], axis=1) * unit
    copies = np.stack([*shifts, 1.12 * x, 0.88 * x, *(x + noise)], axis=1).astype(np.float32)
    return np.clip(copies, card.low, card.high).reshape(-1, *x.shape[1:])


def _noise(image: Array) -> Array:
    digest = hashlib.sha256(np.ascontiguousarray(image).data).digest()
    return np.random.default_rng(np.frombuffer(digest, "<u4")).normal(0.0, 0.04, (2, *image.shape))
