"""The greatest probabilities alone.

Source: Shokri, Stronati, Song, Shmatikov, "Membership Inference Attacks Against Machine Learning Models", IEEE
S&P 2017, section VIII-A (restricting the prediction vector to the top k classes).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from defenses.answers.renormalised import probs_of
from defenses.defense import Handler, Redundant
from wire import Answer, BadInput, Card, Query


@dataclass(frozen=True)
class TopK:
    """Tells the k greatest probabilities and withholds the others; labels stay as they are.

    Of equal ones the label's comes first, then the lower class's.

    Attributes:
        k: How many are told.
    """

    k: int

    def __post_init__(self) -> None:
        if self.k < 1:
            raise BadInput(f"top_k: k must be at least 1, not {self.k}; for labels alone, label_only")

    async def __call__(self, query: Query, handle: Handler) -> Answer:
        """Answers with the greatest probabilities."""
        answer = await handle(query)
        probs = probs_of(answer)
        order = -probs
        rows = np.arange(len(probs))
        order[rows, answer.labels] = -np.inf
        told = probs.copy()
        told[rows[:, None], order.argsort(axis=1, kind="stable")[:, self.k :]] = np.nan
        return Answer(answer.labels, told)

    def disclose(self, card: Card) -> Card:
        """Says how many are told; stands once, and not outside label_only."""
        if not card.tells_probs:
            raise BadInput("top_k: the layers inside tell labels alone, and nothing is left to withhold")
        if card.top_k is not None:
            raise Redundant(
                f"top_k: k = {self.k} outside k = {card.top_k}; the lesser alone would do the same",
                replace(card, top_k=min(self.k, card.top_k)),
            )
        return replace(card, top_k=self.k)
