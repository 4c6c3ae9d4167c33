"""Multilayer perceptron."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import nn

from wire import BadInput
from zoo.families.family import Architecture
from zoo.linear import Linear

MOST_LAYERS = 100


@dataclass(frozen=True)
class Mlp(Architecture):
    """Multilayer perceptron with ReLU.

    Source: Goodfellow, Bengio and Courville, Deep Learning (2016), chapter 6.

    Attributes:
        hidden: Widths of the hidden layers.
    """

    hidden: tuple[int, ...] = (256, 128)

    def __post_init__(self) -> None:
        if len(self.hidden) > MOST_LAYERS:
            raise BadInput(f"an mlp has at most {MOST_LAYERS} hidden layers, not {len(self.hidden)}")
        if any(width < 1 for width in self.hidden):
            raise BadInput(f"hidden layers must be at least 1 wide, not {self.hidden}")

    def module(self, input_shape: tuple[int, ...], classes: int) -> nn.Module:
        """Returns an untrained module from rows, ``(n, *input_shape)``, to logits, ``(n, classes)``."""
        widths = (math.prod(input_shape), *self.hidden)
        layers: list[nn.Module] = [nn.Flatten()]
        for before, width in zip(widths, self.hidden, strict=False):
            layers += [Linear(before, width), nn.ReLU()]
        return nn.Sequential(*layers, Linear(widths[-1], classes))
