"""A small DCGAN, which makes images like given ones, and images of random shapes to give it.

Sources: Radford, Metz, Chintala, "Unsupervised Representation Learning with Deep Convolutional Generative
Adversarial Networks", ICLR 2016, section 3; Sanyal, Addepalli, Babu, "Towards Data-Free Model Stealing in a Hard
Label Setting", CVPR 2022 (images of random shapes).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from attacker.extraction.generator import generator
from wire import Array

SHAPES = 12  # on an image
SIDES = 0.1, 0.5  # of a shape, as shares of the image's


class Gan:
    """A generator of images and the discriminator that it learns from.

    Attributes:
        shape: Shape of an image, ``(channels, height, width)``.
        latent: Length of the generator's noise.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        ends: tuple[Array, Array],
        latent: int,
        width: int,
        *,
        seed: int,
        lr: float = 2e-4,
    ) -> None:
        """Makes an untrained pair.

        Args:
            shape: As in the class.
            ends: Least and greatest value of each feature, ``shape`` each.
            latent: As in the class.
            width: Channels of the first convolutions.
            seed: Seed of the weights and of the noise.
            lr: Learning rate of both.
        """
        self.shape, self.latent = shape, latent
        self._low, self._high = (torch.tensor(end, dtype=torch.float32) for end in ends)
        self._randomness = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.generator = generator(shape, latent, width, normalised=False)
            self.discriminator = _discriminator(shape, width)
        self._leads, self._tells = (
            torch.optim.Adam(module.parameters(), lr, betas=(0.5, 0.999))
            for module in (self.generator, self.discriminator)
        )

    def made(self, n: int) -> torch.Tensor:
        """Makes ``n`` images, ``(n, *shape)``, with the generator's gradients."""
        raw: torch.Tensor = self.generator(torch.randn(n, self.latent, generator=self._randomness))
        return self._low + (self._high - self._low) * (1 + raw.tanh()) / 2

    def step(self, real: torch.Tensor, further: Callable[[torch.Tensor], torch.Tensor] | None = None) -> None:
        """Trains both on a batch.

        Args:
            real: Images to be like, ``(n, *shape)``, at least 2.
            further: A loss of the generator's images, beside the discriminator's.
        """
        fake = self.made(len(real))
        judged = [self.discriminator(self._scaled(part)) for part in (real, fake.detach())]
        _step(self._tells, _told(judged[0], 1) + _told(judged[1], 0))
        loss = _told(self.discriminator(self._scaled(fake)), 1)
        _step(self._leads, loss if further is None else loss + further(fake))

    def _scaled(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * (x - self._low) / (self._high - self._low).clamp(min=1e-9) - 1


def shapes(n: int, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Draws images of random shapes on a plain ground, ``(n, *shape)`` float32 from 0 to 1.

    Args:
        n: Number of images.
        shape: Shape of an image, ``(channels, height, width)``.
        rng: Source of all randomness.
    """
    channels, height, width = shape
    down, across = np.mgrid[:height, :width] + 0.5
    x = np.broadcast_to(rng.random((n, channels, 1, 1)), (n, *shape)).copy()
    for _ in range(SHAPES):
        centre = rng.random((n, 2, 1, 1))
        half = rng.uniform(*SIDES, (n, 2, 1, 1)) / 2
        v = (down / height - centre[:, 0]) / half[:, 0]
        u = (across / width - centre[:, 1]) / half[:, 1]
        rectangle, ellipse = np.maximum(np.abs(u), np.abs(v)) <= 1, u**2 + v**2 <= 1
        triangle = (np.abs(v) <= 1) & (np.abs(u) <= (1 + v) / 2)
        kind = rng.integers(3, size=(n, 1, 1))
        inside = np.choose(kind, [rectangle, ellipse, triangle])
        x = np.where(inside[:, None], rng.random((n, channels, 1, 1)), x)
    return x.astype(np.float32)


def _discriminator(shape: tuple[int, ...], width: int) -> nn.Module:
    channels, height, breadth = shape
    left = 2 * width * ((height + 3) // 4) * ((breadth + 3) // 4)
    return nn.Sequential(
        *(nn.Conv2d(channels, width, 3, 2, 1), nn.LeakyReLU(0.2)),
        *(nn.Conv2d(width, 2 * width, 3, 2, 1), nn.BatchNorm2d(2 * width), nn.LeakyReLU(0.2)),
        *(nn.Flatten(), nn.Linear(left, 1)),
    )


def _told(judged: torch.Tensor, real: float) -> torch.Tensor:
    return functional.binary_cross_entropy_with_logits(judged, torch.full_like(judged, real))


def _step(optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
