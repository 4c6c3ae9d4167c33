"""Fixed front ends of images and of tables: what a public encoder is to a large model, at almost no cost.

A model on top of it trains in a second, so that hundreds of victims, twins and suspects can be had. The front end
is the same for all of them and depends on none, so no test can see it.

Source: the cells of oriented gradients are those of Dalal and Triggs, "Histograms of Oriented Gradients for Human
Detection", CVPR 2005, without the normalisation of blocks, and of each colour by itself.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch.nn import functional

from wire import Array, BadInput
from zoo.data.pool import Pool

DIRECTIONS, CELL, PASS = 8, 7, 2000


class FrontEnd:
    """Maps images to features: eight rectified directional derivatives in cells, and a smaller image.

    The features are decorrelated, and those of small variance are left out.
    """

    def __init__(self, x: Array, kept: int = 112) -> None:
        """Learns means and principal components.

        Args:
            x: Images that train none of the compared models, ``(n, c, h, w)``.
            kept: Number of features to keep.

        Raises:
            BadInput: The rows are no images, or too small.
        """
        if x.ndim != 4 or min(x.shape[2:]) < CELL:
            raise BadInput(f"the front end takes images of at least {CELL} x {CELL}, not {x.shape[1:]}")
        features = described(x)
        self.mean = features.mean(axis=0)
        variance, axes = np.linalg.eigh(np.cov((features - self.mean).T))
        order = np.argsort(-variance)[:kept]
        self.axes = axes[:, order] / np.maximum(variance[order], 1e-9) ** 0.25
        self._seen: dict[int, tuple[Array, Array]] = {}

    def __call__(self, x: Array) -> Array:
        """Returns the features of images, ``(n, kept)`` float32; those of the latest arrays are kept."""
        if id(x) not in self._seen:
            while len(self._seen) > 2:
                self._seen.pop(next(iter(self._seen)))
            self._seen[id(x)] = x, ((described(x) - self.mean) @ self.axes).astype(np.float32)
        return self._seen[id(x)][1]

    def tensor(self, rows: torch.Tensor) -> torch.Tensor:
        """Returns the features of images as a tensor, which can be differentiated."""
        mean, axes = (torch.from_numpy(part.astype(np.float32)) for part in (self.mean, self.axes))
        return (_described(rows) - mean) @ axes


@torch.inference_mode()
def described(x: Array) -> Array:
    """Returns the features of images before they are decorrelated, ``(n, d)``."""
    parts = [_described(rows) for rows in torch.split(torch.from_numpy(np.ascontiguousarray(x)), PASS)]
    return np.asarray(torch.cat(parts).numpy(), np.float64)


def _described(rows: torch.Tensor) -> torch.Tensor:
    across = torch.tensor([[0.0, 0, 0], [-1, 0, 1], [0, 0, 0]])
    angles = [direction * 2 * math.pi / DIRECTIONS for direction in range(DIRECTIONS)]
    kernels = torch.stack([math.cos(angle) * across + math.sin(angle) * across.T for angle in angles])[:, None]
    slopes = functional.conv2d(rows.flatten(0, 1)[:, None], kernels, padding=1).relu()
    cells = 4 * functional.avg_pool2d(slopes, CELL)
    return torch.cat([cells.reshape(len(rows), -1), functional.avg_pool2d(rows, 2).flatten(1)], dim=1)


class TableFrontEnd:
    """Maps rows of a table to features: a feature for each category, and numbers as ranks from 0 to 1.

    A missing category has no feature that is 1, and a missing number is 0.
    """

    def __init__(self, pool: Pool) -> None:
        """Learns the numbers' distributions.

        Args:
            pool: Rows that train none of the compared models, with named features.
        """
        self.features = pool.features
        self.sorted = [np.sort(column[~np.isnan(column)]) for column in pool.x.T]

    def __call__(self, x: Array) -> Array:
        """Returns the features of rows, ``(n, d)`` float32."""
        return np.concatenate([self._column(number, column) for number, column in enumerate(x.T)], axis=1)

    def _column(self, number: int, column: Array) -> Array:
        if categories := self.features[number].categories:
            return np.asarray(column[:, None] == np.arange(len(categories)), np.float32)
        known = self.sorted[number]
        ranks = np.searchsorted(known, column, "right") / max(len(known), 1)
        return np.asarray(np.where(np.isnan(column), 0, ranks)[:, None], np.float32)
