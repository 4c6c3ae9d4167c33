"""The generator of rows of data-free extraction; see :mod:`~attacker.extraction.data_free` and ``dfms_hl``."""

from __future__ import annotations

import math

import torch
from torch import nn


def generator(shape: tuple[int, ...], latent: int, width: int, *, normalised: bool = True) -> nn.Module:
    """Returns a module from noise, ``(n, latent)``, to rows before the nonlinearity, ``(n, *shape)``.

    Images whose sides are multiples of 4 get the authors' network: a linear map, and three convolutions that
    double the sides twice. Other rows get a perceptron of two hidden layers.

    Args:
        shape: Shape of a row.
        latent: Length of the noise.
        width: Channels of the first convolution, the authors' 128; four times as many hidden units.
        normalised: Whether what it makes has mean 0 and deviation 1 in each batch, as DFME's has.
    """
    if len(shape) == 3 and shape[1] % 4 == shape[2] % 4 == 0:
        channels, height, breadth = shape
        return nn.Sequential(
            nn.Linear(latent, width * height * breadth // 16),
            nn.Unflatten(1, (width, height // 4, breadth // 4)),
            nn.BatchNorm2d(width),
            nn.Upsample(scale_factor=2),
            *_block(width, width),
            nn.Upsample(scale_factor=2),
            *_block(width, max(width // 2, 1)),
            nn.Conv2d(max(width // 2, 1), channels, 3, padding=1),
            *([nn.BatchNorm2d(channels, affine=False)] if normalised else []),
        )
    hidden, features = 4 * width, math.prod(shape)
    return nn.Sequential(
        *(nn.Linear(latent, hidden), nn.BatchNorm1d(hidden), nn.LeakyReLU(0.2)),
        *(nn.Linear(hidden, hidden), nn.BatchNorm1d(hidden), nn.LeakyReLU(0.2)),
        nn.Linear(hidden, features),
        *([nn.BatchNorm1d(features, affine=False)] if normalised else []),
        nn.Unflatten(1, shape),
    )


def directions(like: torch.Tensor, randomness: torch.Generator) -> torch.Tensor:
    """Draws a direction of length 1 for each row, ``(n, *shape)``."""
    drawn = torch.randn(like.shape, generator=randomness)
    unit: torch.Tensor = drawn / drawn.flatten(1).norm(dim=1).reshape(-1, *[1] * (like.dim() - 1))
    return unit


def _block(before: int, width: int) -> list[nn.Module]:
    return [nn.Conv2d(before, width, 3, padding=1), nn.BatchNorm2d(width), nn.LeakyReLU(0.2)]
