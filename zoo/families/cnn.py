"""Small convolutional network."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from wire import BadInput
from zoo.families.family import Architecture
from zoo.linear import Linear


@dataclass(frozen=True)
class Cnn(Architecture):
    """Two convolutional blocks and a hidden layer, after LeNet-5 with batch normalisation and ReLU.

    Source: LeCun et al., "Gradient-Based Learning Applied to Document Recognition", Proc. IEEE 1998, section II.B.

    Attributes:
        width: Channels of the first block; the second has twice as many.
        hidden: Width of the hidden layer.
    """

    width: int = 16
    hidden: int = 128

    def __post_init__(self) -> None:
        if self.width < 1 or self.hidden < 1:
            raise BadInput(f"{self}: width and hidden must be at least 1")

    def module(self, input_shape: tuple[int, ...], classes: int) -> nn.Module:
        """Returns an untrained module from images, ``(n, c, h, w)``, to logits, ``(n, classes)``.

        Raises:
            BadInput: The rows are not images of at least 8 by 8.
        """
        return nn.Sequential(*body(input_shape, self.width, self.hidden), nn.ReLU(), Linear(self.hidden, classes))


def body(input_shape: tuple[int, ...], width: int, hidden: int) -> list[nn.Module]:
    """Returns the layers of the network up to the hidden one, whose activation is left out.

    Raises:
        BadInput: The rows are not images of at least 8 by 8.
    """
    if len(input_shape) != 3 or min(input_shape[1:]) < 8:
        raise BadInput(f"a cnn takes images (channels, height, width) of at least 8 by 8, not rows {input_shape}")
    channels, height, breadth = input_shape
    return [
        *_block(channels, width),
        *_block(width, 2 * width),
        nn.Flatten(),
        Linear(2 * width * (height // 4) * (breadth // 4), hidden),
    ]


def _block(before: int, width: int) -> list[nn.Module]:
    return [
        nn.Conv2d(before, width, 3, padding=1, bias=False),
        nn.MaxPool2d(2),  # before the nonlinearity, as in LeNet-5, which is also cheaper
        nn.BatchNorm2d(width),
        nn.ReLU(),
    ]
