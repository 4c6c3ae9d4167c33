"""Flattens or sharpens the probabilities by a temperature.

Source: Shokri, Stronati, Song, Shmatikov, "Membership Inference Attacks Against Machine Learning Models", IEEE
S&P 2017, section VIII-A (raising the temperature of the softmax).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from defenses.answers.renormalised import needs_probabilities, probs_of
from defenses.defense import Layer, RowWise, Stage
from defenses.site import Site
from wire import Answer, Array, BadInput, Card


@dataclass(frozen=True)
class Temperature:
    """Divides the logits by a temperature; the label stays.

    Attributes:
        temperature: The divisor; above 1, probabilities become more even.
    """

    temperature: float

    stage: ClassVar[Stage] = Stage.NOISE

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise BadInput(f"temperature: must be positive and finite, not {self.temperature}")

    def bind(self, site: Site) -> Layer:
        """Returns the layer that divides the logits."""
        return RowWise(lambda x, answer: Answer(answer.labels, self.heat(probs_of(answer))))

    def heat(self, probs: Array) -> Array:
        """Returns ``softmax(log(probs) / temperature)``, ``(n, k)``, computed without logarithms."""
        heated = np.divide(probs, np.maximum.reduce(probs, axis=1, keepdims=True), dtype=np.float64)
        heated **= 1 / self.temperature
        heated /= np.add.reduce(heated, axis=1, keepdims=True)
        return heated.astype(np.float32)

    def disclose(self, card: Card) -> Card:
        """Returns the card with the product of temperatures; stands inside top-k, rounding and label-only."""
        inside = card.temperature or 1.0
        return replace(needs_probabilities("temperature", card), temperature=inside * self.temperature)
