"""Softmax regression."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import nn

from zoo.linear import Linear


@dataclass(frozen=True)
class Softmax:
    """Multinomial logistic regression: one linear map of the features.

    Source: Hastie, Tibshirani and Friedman, The Elements of Statistical Learning (2nd ed., 2009), section 4.4.
    """

    def module(self, input_shape: tuple[int, ...], classes: int) -> nn.Module:
        """Returns an untrained module from rows, ``(n, *input_shape)``, to logits, ``(n, classes)``."""
        return nn.Sequential(nn.Flatten(), Linear(math.prod(input_shape), classes))
