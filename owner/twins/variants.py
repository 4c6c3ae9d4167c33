"""Variants of images, by which a label alone tells how sure a model is of an image."""

from __future__ import annotations

import hashlib

import numpy as np

from wire import Array
from zoo.data.pool import Pool


def variants(x: Array, reference: Pool, count: int) -> Array:
    """Returns the image itself, then images with weak noise, with strong noise, and mixed with another image.

    Noise and mixtures are functions of the image, so that anyone derives the same variants.

    Args:
        x: Images, ``(n, *input_shape)``.
        reference: The other images.
        count: Number of variants of each image, k.

    Returns:
        The variants, ``(n k, *input_shape)`` float32, those of an image together.
    """
    low, high = reference.bounds
    unit = 1.0 if low is None or high is None else high - low
    made = np.empty((len(x), count, *x.shape[1:]), np.float32)
    for image, out in zip(x, made, strict=True):
        digest = hashlib.sha256(np.ascontiguousarray(image).data).digest()
        rng = np.random.default_rng(np.frombuffer(digest, "<u4"))
        out[:] = image
        weak, strong, mixed = np.array_split(np.arange(1, count), 3)
        for scale, part in ((0.06, weak), (0.12, strong)):
            out[part] += rng.normal(0.0, scale * unit, out[part].shape)
        weight = rng.uniform(0.1, 0.35, (len(mixed), *(1 for _ in image.shape)))
        others = reference.x[rng.integers(len(reference), size=len(mixed))]
        out[mixed] = (1 - weight) * image + weight * others
    return np.clip(made, low, high).reshape(-1, *x.shape[1:])
