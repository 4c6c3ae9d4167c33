"""Rounded probabilities.

Source: Tramer, Zhang, Juels, Reiter, Ristenpart, "Stealing Machine Learning Models via Prediction APIs", USENIX
Security 2016, section 7.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from defenses.answers.renormalised import probs_of
from defenses.defense import Handler, Redundant
from wire import Answer, BadInput, Card, Query


@dataclass(frozen=True)
class Rounding:
    """Rounds probabilities, halves to the even digit; labels stay as they are, though others may equal them now.

    Attributes:
        digits: Decimals that are kept.
    """

    digits: int

    def __post_init__(self) -> None:
        if not 0 <= self.digits <= 8:
            raise BadInput(f"rounding: digits must lie between 0 and 8, not {self.digits}")

    async def __call__(self, query: Query, handle: Handler) -> Answer:
        """Answers with rounded probabilities."""
        answer = await handle(query)
        return Answer(answer.labels, probs_of(answer).round(self.digits))

    def disclose(self, card: Card) -> Card:
        """Says how many digits are told; stands once, and not outside label_only."""
        if not card.tells_probs:
            raise BadInput("rounding: the layers inside tell labels alone, and nothing is left to round")
        if card.digits is not None:
            raise Redundant(
                f"rounding: to {self.digits} digits outside {card.digits}; the lesser alone would do",
                replace(card, digits=min(self.digits, card.digits)),
            )
        return replace(card, digits=self.digits)
