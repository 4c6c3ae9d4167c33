"""Reverse sigmoid: a deceptive perturbation that maps many probabilities to the same value.

Source: Lee, Edwards, Molloy, Su, "Defending Against Neural Network Model Stealing Attacks Using Deceptive
Perturbations", IEEE S&P Workshops 2019, section III.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.special import expit, logit

from defenses.answers.renormalised import needs_probabilities, probs_of, renormalised
from defenses.defense import Layer, RowWise, Stage
from defenses.site import Site
from wire import Answer, Array, BadInput, Card

_LEAST = 1e-7  # minimum distance of probabilities from 0 and 1


@dataclass(frozen=True)
class ReverseSigmoid:
    """Replaces each y by ``alpha (y - beta (sigmoid(gamma logit(y)) - 1/2))``; alpha normalises the sum to 1.

    The label is the class with the largest perturbed probability.

    Attributes:
        beta: Magnitude of the perturbation.
        gamma: Steepness of the perturbation as a function of the confidence.
    """

    beta: float
    gamma: float

    stage: ClassVar[Stage] = Stage.NOISE

    def __post_init__(self) -> None:
        if not (0 < self.beta < 2 and 0 < self.gamma < math.inf):
            raise BadInput(
                "reverse_sigmoid: beta must lie between 0 and 2, and gamma must be positive and finite, "
                f"not {self.beta} and {self.gamma}"
            )

    def bind(self, site: Site) -> Layer:
        """Returns the layer that perturbs probabilities."""
        return RowWise(self._perturbed)

    def _perturbed(self, x: Array, answer: Answer) -> Answer:
        y = np.clip(probs_of(answer), _LEAST, 1 - _LEAST, dtype=np.float64)
        return renormalised(y - self.beta * (expit(self.gamma * logit(y)) - 0.5))

    def disclose(self, card: Card) -> Card:
        """Returns the card; the layer must stand inside top-k, rounding and label-only."""
        return needs_probabilities("reverse_sigmoid", card)
