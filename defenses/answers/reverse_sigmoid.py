"""Reverse sigmoid: a deceptive perturbation that many probabilities lead to.

Source: Lee, Edwards, Molloy, Su, "Defending Against Neural Network Model Stealing Attacks Using Deceptive
Perturbations", IEEE S&P Workshops 2019, section III.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

from defenses.defense import Handler
from wire import Answer, Array, BadInput, Card, Query

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
        answer = await handle(query)
        if answer.probs is None:
            return answer
        told = self.perturb(answer.probs)
        return Answer(np.nanargmax(told, axis=1).astype(np.int64), told)

    def perturb(self, probs: Array) -> Array:
        """Perturbs probabilities ``(n, k)``, NaN where withheld."""
        y = np.clip(probs.astype(np.float64), _LEAST, 1 - _LEAST)
        told = np.maximum(y - self.beta * (expit(self.gamma * logit(y)) - 0.5), 0)
        return np.asarray(told / np.nansum(told, axis=1, keepdims=True)).astype(np.float32)

    def disclose(self, card: Card) -> Card:
        """Leaves the card as it is."""
        if not card.tells_probs:
            raise BadInput("reverse_sigmoid: the layers inside tell labels alone, which it cannot change")
        return card
