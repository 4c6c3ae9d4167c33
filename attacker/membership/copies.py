"""Copies of rows that differ a little, to ask about one row several times."""

from __future__ import annotations

import itertools
import zlib

import numpy as np

from wire import Array, BadInput, Card

FURTHEST = 2  # pixels


def shifted(x: Array, count: int) -> Array:
    """Returns each image itself, then copies shifted by a pixel, then further; borders are repeated.

    Args:
        x: Images, ``(n, c, h, w)``; any rows if ``count`` is 1.
        count: Number of copies of each image q, at most 25.

    Returns:
        The copies, ``(n q, c, h, w)``, those of an image together.

    Raises:
        BadInput: The rows are not images, or there are not so many shifts.
    """
    if count == 1:
        return x
    steps = range(-FURTHEST, FURTHEST + 1)
    shifts = sorted(itertools.product(steps, steps), key=lambda shift: (abs(shift[0]) + abs(shift[1]), shift))
    if x.ndim != 4 or count > len(shifts):
        raise BadInput(f"{count} copies of each row: expected images, and at most {len(shifts)} copies")
    height, width = x.shape[2:]
    padded = np.pad(x, ((0, 0), (0, 0), (FURTHEST, FURTHEST), (FURTHEST, FURTHEST)), mode="edge")
    windows = [
        padded[:, :, FURTHEST + down : FURTHEST + down + height, FURTHEST + right : FURTHEST + right + width]
        for down, right in shifts[:count]
    ]
    return np.stack(windows, axis=1).reshape(-1, *x.shape[1:])


def noisy(x: Array, count: int, deviation: float, card: Card) -> Array:
    """Returns each row itself, then copies with normal noise, which is a function of the row, within its range.

    Args:
        x: Rows, ``(n, *input_shape)``.
        count: Number of copies of each row q.
        deviation: Standard deviation of the noise.
        card: The model's card, which tells the range.

    Returns:
        The copies, ``(n q, *input_shape)``, those of a row together.
    """
    copies = np.repeat(x[:, None], count, axis=1)
    for row, own in zip(x, copies, strict=True):
        rng = np.random.default_rng(zlib.crc32(np.ascontiguousarray(row).data))
        own[1:] += rng.normal(0, deviation, own[1:].shape).astype(np.float32)
    copies[:, 1:] = np.clip(copies[:, 1:], card.low, card.high)
    return copies.reshape(-1, *x.shape[1:])
