"""Discloses only the largest probabilities.

Source: Shokri, Stronati, Song, Shmatikov, "Membership Inference Attacks Against Machine Learning Models", IEEE
S&P 2017, section VIII-A (restricting the prediction vector to the top k classes).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from defenses.answers.renormalised import probs_of
from defenses.defense import Layer, Redundant, RowWise, Stage
from defenses.site import Site
from wire import Answer, Array, BadInput, Card


@dataclass(frozen=True)
class TopK:
    """Discloses the k largest probabilities and withholds the others; the label stays.

    Among equal probabilities, the label's comes first, then the lowest class's.

    Attributes:
        k: Number of probabilities to disclose.
    """

    k: int

    stage: ClassVar[Stage] = Stage.PRECISION

    def __post_init__(self) -> None:
        if self.k < 1:
            raise BadInput(f"top_k: k must be at least 1, not {self.k}; to disclose labels only, use label_only")

    def bind(self, site: Site) -> Layer:
        """Returns the layer that withholds all but the largest probabilities."""
        return RowWise(self._greatest)

    def _greatest(self, x: Array, answer: Answer) -> Answer:
        probs = probs_of(answer)
        order = -probs
        rows = np.arange(len(probs))
        order[rows, answer.labels] = -np.inf
        greatest = probs.copy()
        greatest[rows[:, None], order.argsort(axis=1, kind="stable")[:, self.k :]] = np.nan
        return Answer(answer.labels, greatest)

    def disclose(self, card: Card) -> Card:
        """Returns the card with k; the layer must stand once, inside label-only."""
        if not card.tells_probs:
            raise BadInput("top_k: the layers inside disclose labels only, so nothing is left to withhold")
        if card.top_k is not None:
            raise Redundant(
                f"top_k: k = {self.k} outside k = {card.top_k}; keep only the smaller k",
                replace(card, top_k=min(self.k, card.top_k)),
            )
        return replace(card, top_k=self.k)
