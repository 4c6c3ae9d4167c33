"""Reverse sigmoid: a deceptive perturbation that many probabilities lead to.

Source: Lee, Edwards, Molloy, Su, "Defending Against Neural Network Model Stealing Attacks Using Deceptive
Perturbations", IEEE S&P Workshops 2019, section III.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

from defenses.answers.renormalised import perturbed, perturbing, probs_of
from defenses.defense import Handler
from wire import Answer, BadInput, Card, Query

_LEAST = 1e-7  # probabilities closer to 0 or 1 than this are taken as this far from them


@dataclass(frozen=True)
class ReverseSigmoid:
    """Tells ``alpha (y - beta (sigmoid(gamma logit(y)) - 1/2))`` for y; alpha normalises, the label follows.

    Attributes:
        beta: Size of the perturbation.
        gamma: How fast it changes with the confidence.
    """

    beta: float
    gamma: float

    def __post_init__(self) -> None:
        if not (0 < self.beta < 2 and 0 < self.gamma < math.inf):
            raise BadInput(
                "reverse_sigmoid: beta must lie between 0 and 2 and gamma be positive, "
                f"not {self.beta} and {self.gamma}"
            )

    async def __call__(self, query: Query, handle: Handler) -> Answer:
        """Answers with the perturbation."""
        y = np.clip(probs_of(await handle(query)), _LEAST, 1 - _LEAST, dtype=np.float64)
        return perturbed(y - self.beta * (expit(self.gamma * logit(y)) - 0.5))

    def disclose(self, card: Card) -> Card:
        """Stands inside what withholds or rounds."""
        return perturbing("reverse_sigmoid", card)
