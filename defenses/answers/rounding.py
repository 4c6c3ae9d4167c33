"""Rounds the probabilities.

Source: Tramer, Zhang, Juels, Reiter, Ristenpart, "Stealing Machine Learning Models via Prediction APIs", USENIX
Security 2016, section 7.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from defenses.answers.renormalised import probs_of
from defenses.defense import Layer, Redundant, RowWise, Stage
from defenses.site import Site
from wire import Answer, BadInput, Card


@dataclass(frozen=True)
class Rounding:
    """Rounds probabilities, half to even; the label stays, even if other classes tie with it after rounding.

    Attributes:
        digits: Number of decimals.
    """

    digits: int

    stage: ClassVar[Stage] = Stage.PRECISION

    def __post_init__(self) -> None:
        if not 0 <= self.digits <= 8:
            raise BadInput(f"rounding: digits must lie between 0 and 8, not {self.digits}")

    def bind(self, site: Site) -> Layer:
        """Returns the layer that rounds probabilities."""
        return RowWise(lambda x, answer: Answer(answer.labels, probs_of(answer).round(self.digits)))

    def disclose(self, card: Card) -> Card:
        """Returns the card with the number of digits; the layer must stand once, inside label-only."""
        if not card.tells_probs:
            raise BadInput("rounding: the layers inside disclose labels only, so nothing is left to round")
        if card.digits is not None:
            raise Redundant(
                f"rounding: to {self.digits} digits outside {card.digits}; keep only the smaller number",
                replace(card, digits=min(self.digits, card.digits)),
            )
        return replace(card, digits=self.digits)
