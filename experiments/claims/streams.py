"""Harmless streams of images, simulated as by PRADA's authors (EuroS&P 2019, section 5.3), from available data.

All are rows ``(n, 1, h, w)`` of 8-bit images, float32 between 0 and 1.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from wire import Array


def uniform(rng: np.random.Generator, rows: int, shape: tuple[int, ...]) -> Array:
    """Draws every pixel uniformly from the 256 values."""
    return _octets(rng.integers(0, 256, (rows, *shape)) / 255)


def rescanned(x: Array) -> Array:
    """Simulates another scanner: gamma 1.4, less contrast, a grey background, and blur."""
    blurred = functional.avg_pool2d(torch.from_numpy(x), 3, stride=1, padding=1, count_include_pad=False).numpy()
    return _octets(0.08 + 0.8 * ((x + blurred) / 2) ** 1.4)


def enlarged(x: Array, shape: tuple[int, ...]) -> Array:
    """Enlarges images of digits to five sevenths of a shape, the area of MNIST's digits, and pads them."""
    height, width = (round(side * 5 / 7) for side in shape[1:])
    large = functional.interpolate(
        torch.from_numpy(x), (height, width), mode="bilinear", align_corners=False
    ).numpy()
    spare = [(side - inner) // 2 for side, inner in zip(shape[1:], (height, width), strict=True)]
    out = np.zeros((len(x), *shape))
    out[:, :, spare[0] : spare[0] + height, spare[1] : spare[1] + width] = large
    return _octets(out)


def tracks(rng: np.random.Generator, x: Array, frames: int) -> Array:
    """Films each image: it comes nearer, drifts and turns a little, in changing light and with camera noise.

    Args:
        rng: Source of all randomness.
        x: One image for each track, ``(t, 1, h, w)``.
        frames: Frames of a track.

    Returns:
        The frames of one track after the other, ``(t * frames, 1, h, w)``.
    """
    n = len(x)
    time = np.linspace(0, 1, frames)
    zoom = np.geomspace(0.7, 1.1, frames) * rng.uniform(0.9, 1.1, (n, 1))
    angle = np.radians(rng.uniform(-8, 8, (n, 1)) + rng.uniform(-4, 4, (n, 1)) * time)
    shift = rng.uniform(-0.1, 0.1, (n, 1, 2)) + rng.uniform(-0.1, 0.1, (n, 1, 2)) * time[:, None]
    light = rng.uniform(0.8, 1.0, (n, 1)) * (1 + rng.uniform(-0.2, 0.2, (n, 1)) * time)
    cos, sin = np.cos(angle) / zoom, np.sin(angle) / zoom
    turned = np.stack([cos, -sin, shift[..., 0], sin, cos, shift[..., 1]], axis=-1)
    theta = torch.from_numpy(turned.reshape(n * frames, 2, 3).astype(np.float32))
    still = torch.from_numpy(x.repeat(frames, axis=0))
    grid = functional.affine_grid(theta, list(still.shape), align_corners=False)
    filmed = functional.grid_sample(still, grid, align_corners=False).numpy() * light.reshape(-1, 1, 1, 1)
    return _octets(filmed + rng.normal(0, 0.01, filmed.shape))


def grey(x: Array, shape: tuple[int, ...]) -> Array:
    """Converts images ``(n, 1 or 3, h, w)`` to grey (ITU-R BT.601) and to another shape ``(1, h, w)``."""
    if x.shape[1] == 3:
        x = np.einsum("nchw,c->nhw", x, np.array([0.299, 0.587, 0.114], np.float32))[:, None]
    sized = functional.interpolate(
        torch.from_numpy(np.ascontiguousarray(x)), shape[1:], mode="bilinear", align_corners=False, antialias=True
    )
    return _octets(sized.numpy())


def _octets(x: Array) -> Array:
    """Rounds to the 256 values of a pixel."""
    octets: Array = np.rint(np.clip(x, 0, 1) * 255).astype(np.float32)
    return octets / np.float32(255)
