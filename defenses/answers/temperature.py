"""Temperature: probabilities made more even, or less.

Source: Shokri, Stronati, Song, Shmatikov, "Membership Inference Attacks Against Machine Learning Models", IEEE
S&P 2017, section VIII-A (raising the softmax's temperature).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from defenses.answers.renormalised import perturbing, probs_of
from defenses.defense import Handler
from wire import Answer, Array, BadInput, Card, Query


@dataclass(frozen=True)
class Temperature:
    """Divides the logits; labels stay as they are.

    Attributes:
        temperature: What they are divided by; above 1 probabilities become more even.
    """

    temperature: float

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise BadInput(f"temperature: must be positive and finite, not {self.temperature}")

    async def __call__(self, query: Query, handle: Handler) -> Answer:
        """Answers at the temperature."""
        answer = await handle(query)
        return Answer(answer.labels, self.heat(probs_of(answer)))

    def heat(self, probs: Array) -> Array:
        """Returns ``softmax(log(probs) / temperature)``, ``(n, k)``, without the logarithm of 0."""
        heated = np.divide(probs, np.maximum.reduce(probs, axis=1, keepdims=True), dtype=np.float64)
        heated **= 1 / self.temperature
        heated /= np.add.reduce(heated, axis=1, keepdims=True)
        return heated.astype(np.float32)

    def disclose(self, card: Card) -> Card:
        """Stands inside what withholds or rounds; two of them multiply."""
        inside = card.temperature or 1.0
        return replace(perturbing("temperature", card), temperature=inside * self.temperature)
