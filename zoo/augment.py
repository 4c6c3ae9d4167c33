"""Random changes of images that keep their class.

Source: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2 (shifts by
up to 4 pixels and horizontal flips).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional

from wire import BadInput

Change = Callable[[torch.Tensor, torch.Generator], torch.Tensor]
"""A change of rows, which may draw from a generator."""


@dataclass(frozen=True)
class Augment:
    """Shifts each image by up to some pixels, and flips every second one.

    Attributes:
        shift: Most pixels along each axis; zeros are moved in.
        flip: Whether to flip images horizontally, each with probability one half.
    """

    shift: int = 0
    flip: bool = False

    def __post_init__(self) -> None:
        if self.shift < 0:
            raise BadInput(f"{self}: shift must be at least 0")

    def __call__(self, x: torch.Tensor, draws: torch.Generator) -> torch.Tensor:
        """Changes images, ``(n, channels, height, width)``.

        Raises:
            BadInput: The rows are not images.
        """
        if not (self.shift or self.flip):
            return x
        if x.ndim != 4:
            raise BadInput(f"rows of shape {tuple(x.shape[1:])} are not images, and cannot be shifted or flipped")
        n, channels, height, width = x.shape
        if self.flip:
            mirrored = (torch.rand(n, generator=draws) < 0.5).to(x.device)
            x = torch.where(mirrored[:, None, None, None], x.flip(3), x)
        if self.shift:
            down, right = torch.randint(2 * self.shift + 1, (2, n, 1, 1, 1), generator=draws).to(x.device)
            rows = torch.arange(height, device=x.device)[:, None] + down
            columns = torch.arange(width, device=x.device) + right
            x = functional.pad(x, [self.shift] * 4)
            x = x.gather(2, rows.expand(n, channels, height, x.shape[3]))
            x = x.gather(3, columns.expand(n, channels, height, width))
        return x
