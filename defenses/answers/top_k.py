"""The greatest probabilities alone.

Source: Shokri, Stronati, Song, Shmatikov, "Membership Inference Attacks Against Machine Learning Models", IEEE
S&P 2017, section VIII-A (restricting the prediction vector to the top k classes).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from defenses.answers.renormalised import probs_of
from defenses.defense import Layer, Redundant, Stage, answering
from defenses.site import Site
from wire import Answer, BadInput, Card, Query


@dataclass(frozen=True)
class TopK:
    """Discloses the k greatest probabilities and withholds the others; the label stays.

    Of equal ones the label's comes first, then the lower class's.

    Attributes:
        k: How many are disclosed.
    """

    k: int

    stage: ClassVar[Stage] = Stage.PRECISION

    def __post_init__(self) -> None:
        if self.k < 1:
            raise BadInput(f"top_k: k must be at least 1, not {self.k}; for labels alone, label_only")

    def bind(self, site: Site) -> Layer:
        """Returns the layer that withholds all but the greatest."""
        return answering(self._greatest)

    def _greatest(self, query: Query, answer: Answer) -> Answer:
        probs = probs_of(answer)
        order = -probs
        rows = np.arange(len(probs))
        order[rows, answer.labels] = -np.inf
        greatest = probs.copy()
        greatest[rows[:, None], order.argsort(axis=1, kind="stable")[:, self.k :]] = np.nan
        return Answer(answer.labels, greatest)

    def disclose(self, card: Card) -> Card:
        """Discloses k; stands once, and inside label-only."""
        if not card.tells_probs:
            raise BadInput("top_k: the layers inside disclose labels only, and nothing is left to withhold")
        if card.top_k is not None:
            raise Redundant(
                f"top_k: k = {self.k} outside k = {card.top_k}; the lesser alone would do the same",
                replace(card, top_k=min(self.k, card.top_k)),
            )
        return replace(card, top_k=self.k)
