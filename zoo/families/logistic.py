"""Logistic regression, of two classes and of more."""

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
    """Multinomial logistic regression: one linear map of the features.

    Source: Hastie, Tibshirani and Friedman, The Elements of Statistical Learning (2nd ed., 2009), section 4.4.
    """

    def module(self, input_shape: tuple[int, ...], classes: int) -> nn.Module:
        """Returns an untrained module from rows, ``(n, *input_shape)``, to logits, ``(n, classes)``."""
        return nn.Sequential(nn.Flatten(), Linear(math.prod(input_shape), classes))


@dataclass(frozen=True)
class Logistic(Architecture):
    """Logistic regression of two classes: one weight vector, and the sigmoid as the probability of the second.

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
        """Puts a zero before each number, ``(n, 1)``: the softmax of both is the sigmoid."""
        return functional.pad(z, (1, 0))
