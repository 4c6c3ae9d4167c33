"""Random label flips: some rows, always the same, are told another class.

Source: randomised response (Warner, "Randomized Response: A Survey Technique for Eliminating Evasive Answer Bias",
Journal of the American Statistical Association 1965), decided by the row, not anew for each answer.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from defenses.answers.renormalised import probs_of
from defenses.answers.row_noise import row_noise
from defenses.defense import Handler
from wire import Answer, Array, BadInput, Card, Query


@dataclass(frozen=True)
class LabelFlips:
    """Tells a share of the rows another class, drawn evenly; the two classes' probabilities change places.

    Attributes:
        rate: Share of the rows, between 0 and 1.
        secret: Key of the decision and the class, 1 to 64 bytes.
    """

    rate: float
    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if not 0 < self.rate <= 1:
            raise BadInput(f"label_flips: rate must lie between 0 and 1, not {self.rate}")

    async def __call__(self, query: Query, handle: Handler) -> Answer:
        """Answers with some labels flipped."""
        answer = await handle(query)
        return self.flip(query.x, answer.labels, probs_of(answer))

    def flip(self, x: Array, labels: Array, probs: Array) -> Answer:
        """Flips labels ``(n,)`` and probabilities ``(n, k)`` of some of the rows ``x``, ``(n, ...)``."""
        decision, choice = row_noise(self.secret, x, 2).T
        rows = np.flatnonzero(decision < self.rate)
        others = (choice * (probs.shape[1] - 1)).astype(np.int64)
        others += others >= labels  # every class but the label's
        flipped, told = labels.copy(), probs.copy()
        flipped[rows] = others[rows]
        told[rows, labels[rows]], told[rows, others[rows]] = probs[rows, others[rows]], probs[rows, labels[rows]]
        return Answer(flipped, told)

    def disclose(self, card: Card) -> Card:
        """Leaves the card as it is; stands inside label_only, where it can exchange probabilities."""
        if not card.tells_probs:
            raise BadInput("label_flips: exchanges probabilities, so it must stand inside label_only")
        return card
