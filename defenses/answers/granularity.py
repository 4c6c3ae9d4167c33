"""How much of a prediction is told: all of it, the top k, the label; coarsened by rounding or temperature.

Source: Shokri, Stronati, Song, Shmatikov, "Membership Inference Attacks Against Machine Learning Models", IEEE
S&P 2017, section VIII-A (restricting the prediction vector to the top k classes, coarsening its precision, raising
the softmax's temperature); Tramer et al., "Stealing Machine Learning Models via Prediction APIs", USENIX Security
2016, section 7 (rounding, class labels only).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from defenses.defense import Handler
from wire import Answer, Array, BadInput, Card, Query


@dataclass(frozen=True)
class Granularity:
    """Coarsens answers: first the temperature, then the choice of the top k, then the rounding.

    Labels stay as they are.

    Attributes:
        top_k: Tell the k greatest probabilities and withhold the others (NaN).
        label_only: Tell labels alone.
        digits: Round probabilities to this many decimals.
        temperature: Divide logits by this; above 1 probabilities become more even.
    """

    top_k: int | None = None
    label_only: bool = False
    digits: int | None = None
    temperature: float | None = None

    def __post_init__(self) -> None:
        if self.label_only and (self.top_k, self.digits, self.temperature) != (None, None, None):
            raise BadInput("granularity: label_only withholds what top_k, digits and temperature would change")
        if self.top_k is not None and self.top_k < 1:
            raise BadInput(
                f"granularity: top_k must be at least 1, not {self.top_k}; for labels alone, label_only"
            )
        if self.digits is not None and not 0 <= self.digits <= 8:
            raise BadInput(f"granularity: digits must lie between 0 and 8, not {self.digits}")
        if self.temperature is not None and not 0 < self.temperature < math.inf:
            raise BadInput(f"granularity: temperature must be positive and finite, not {self.temperature}")

    async def __call__(self, query: Query, handle: Handler) -> Answer:
        """Answers with what may be told."""
        answer = await handle(query)
        if self.label_only:
            return Answer(answer.labels)
        return Answer(answer.labels, None if answer.probs is None else self.coarsen(answer.probs))

    def coarsen(self, probs: Array) -> Array:
        """Coarsens probabilities ``(n, k)``; withheld ones come back as NaN."""
        if self.temperature is not None:
            with np.errstate(divide="ignore"):
                logits = np.log(probs, dtype=np.float64) / self.temperature
            heated = np.exp(logits - np.nanmax(logits, axis=1, keepdims=True))
            probs = (heated / np.nansum(heated, axis=1, keepdims=True)).astype(np.float32)
        if self.top_k is not None and self.top_k < probs.shape[1]:
            order = np.argsort(np.where(np.isnan(probs), -np.inf, -probs), axis=1, kind="stable")
            probs = probs.copy()
            np.put_along_axis(probs, order[:, self.top_k :], np.float32(np.nan), axis=1)
        if self.digits is not None:
            probs = np.round(probs, self.digits)
        return probs

    def disclose(self, card: Card) -> Card:
        """Says whether probabilities are told."""
        if not card.tells_probs:
            raise BadInput("granularity: the layers inside tell labels alone, which nothing can coarsen")
        return replace(card, tells_probs=not self.label_only)
