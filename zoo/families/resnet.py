"""Residual network for small images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from wire import BadInput
from zoo.families.family import Architecture

MOST_BLOCKS = 200  # per stage: the paper's deepest network, of 1202 layers


@dataclass(frozen=True)
class Resnet(Architecture):
    """CIFAR-style residual network of depth 6n + 2, with parameter-free shortcuts (option A).

    Source: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2.

    Attributes:
        n: Blocks in each of the three stages; 3 gives ResNet-20.
        width: Channels of the first stage; each later stage has twice as many as the one before.
    """

    n: int = 3
    width: int = 16

    def __post_init__(self) -> None:
        if not 1 <= self.n <= MOST_BLOCKS or self.width < 1:
            raise BadInput(f"{self}: n must lie between 1 and {MOST_BLOCKS}, and width be at least 1")

    def module(self, input_shape: tuple[int, ...], classes: int) -> nn.Module:
        """Returns an untrained module from images, ``(n, c, h, w)``, to logits, ``(n, classes)``.

        Raises:
            BadInput: The rows are not images of at least 8 by 8.
        """
        if len(input_shape) != 3 or min(input_shape[1:]) < 8:
            raise BadInput(
                f"a resnet takes images (channels, height, width) of at least 8 by 8, not rows {input_shape}"
            )
        layers: list[nn.Module] = [_conv(input_shape[0], self.width), nn.BatchNorm2d(self.width), nn.ReLU()]
        before = self.width
        for stage in range(3):
            width = self.width * 2**stage
            for block in range(self.n):
                layers.append(_Block(before, width, stride=2 if stage and not block else 1))
                before = width
        module = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, classes))
        for layer in module.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        return module


class _Block(nn.Module):
    """Two 3 by 3 convolutions and the shortcut around them."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.stride, self.more = stride, width - before
        self.conv1, self.bn1 = _conv(before, width, stride), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = _conv(width, width), nn.BatchNorm2d(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        residual = functional.relu(self.bn1(self.conv1(x)))
        residual = self.bn2(self.conv2(residual))
        shortcut = functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.more))
        return functional.relu(residual + shortcut)


def _conv(before: int, width: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(before, width, 3, stride, padding=1, bias=False)
