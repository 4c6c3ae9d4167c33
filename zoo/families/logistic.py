"""Binary and multinomial logistic regression."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from wire import BadInput
from zoo.families.family import Architecture
from zoo.linear import Linear


@dataclass(frozen=True)
class Softmax(Architecture):
    """Multinomial logistic regression: one linear map from features to logits.

    Source: Hastie, Tibshirani and Friedman, The Elements of Statistical Learning (2nd ed., 2009), section 4.4.
    """

    def module(self, input_shape: tuple[int, ...], classes: int) -> nn.Module:
        """Returns an untrained module from rows, ``(n, *input_shape)``, to logits, ``(n, classes)``."""
        return nn.Sequential(nn.Flatten(), Linear(math.prod(input_shape), classes))


@dataclass(frozen=True)
class Logistic(Architecture):
    """Binary logistic regression: one weight vector; the sigmoid gives the probability of the second class.

    Source: Hastie, Tibshirani and Friedman, The Elements of Statistical Learning (2nd ed., 2009), section 4.4; the
    victim of the equation-solving attack in Tramer et al., "Stealing Machine Learning Models via Prediction APIs",
    USENIX Security 2016, section 4.1.1.
    """

    def module(self, input_shape: tuple[int, ...], classes: int) -> nn.Module:
        """Returns an untrained module from rows, ``(n, *input_shape)``, to logits, ``(n, 2)``.

        Raises:
            BadInput: There are not two classes.
        """
        if classes != 2:
            raise BadInput(f"logistic takes 2 classes, not {classes}; softmax takes more")
        return nn.Sequential(nn.Flatten(), Linear(math.prod(input_shape), 1), _Sigmoid())


class _Sigmoid(nn.Module):
    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Prepends a zero to each number, ``(n, 1)``; the softmax of the pair is the sigmoid of the number."""
        return functional.pad(z, (1, 0))
