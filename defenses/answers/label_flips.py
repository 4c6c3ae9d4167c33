"""Flips the labels of randomly chosen rows, always the same rows.

Source: randomised response (Warner, "Randomized Response: A Survey Technique for Eliminating Evasive Answer Bias",
Journal of the American Statistical Association 1965); here the row determines the decision, not each answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from defenses.answers.grid import ANY, Grid
from defenses.answers.renormalised import probs_of
from defenses.answers.row_noise import row_noise
from defenses.defense import Layer, RowWise, Stage
from defenses.site import Site
from wire import Answer, Array, BadInput, Card


@dataclass(frozen=True)
class LabelFlips:
    """Gives a share of the rows another, uniformly drawn label, and swaps the two classes' probabilities.

    Attributes:
        rate: Share of the rows, between 0 and 1.
    """

    rate: float

    stage: ClassVar[Stage] = Stage.NOISE

    def __post_init__(self) -> None:
        if not 0 < self.rate <= 1:
            raise BadInput(f"label_flips: rate must lie between 0 and 1, not {self.rate}")

    def bind(self, site: Site) -> Layer:
        """Returns the layer that flips labels with the site's key."""
        return RowWise(lambda x, answer: self.flip(site.secret, x, answer.labels, probs_of(answer), site.grid))

    def flip(self, secret: bytes, x: Array, labels: Array, probs: Array, grid: Grid = ANY) -> Answer:
        """Flips the labels ``(n,)`` and swaps the probabilities ``(n, k)`` of some rows of ``x``, ``(n, ...)``."""
        decision, choice = row_noise(secret, x, 2, grid).T
        rows = np.flatnonzero(decision < self.rate)
        others = (choice * (probs.shape[1] - 1)).astype(np.int64)
        others += others >= labels  # every class but the label's
        flipped, exchanged = labels.copy(), probs.copy()
        flipped[rows] = others[rows]
        exchanged[rows, labels[rows]] = probs[rows, others[rows]]
        exchanged[rows, others[rows]] = probs[rows, labels[rows]]
        return Answer(flipped, exchanged)

    def disclose(self, card: Card) -> Card:
        """Returns the card unchanged; the layer swaps probabilities, so it must stand inside label-only."""
        if not card.tells_probs:
            raise BadInput("label_flips: swaps probabilities, so it must stand inside label_only")
        return card
