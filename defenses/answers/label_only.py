"""Discloses labels only.

Source: Tramer, Zhang, Juels, Reiter, Ristenpart, "Stealing Machine Learning Models via Prediction APIs", USENIX
Security 2016, section 7.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from defenses.defense import Layer, Redundant, RowWise, Stage
from defenses.site import Site
from wire import Answer, BadInput, Card


@dataclass(frozen=True)
class LabelOnly:
    """Discloses labels and withholds all probabilities."""

    stage: ClassVar[Stage] = Stage.PRECISION

    def bind(self, site: Site) -> Layer:
        """Returns the layer that withholds probabilities."""
        return RowWise(lambda x, answer: Answer(answer.labels))

    def disclose(self, card: Card) -> Card:
        """Returns the card without probabilities; a layer inside must not lose its whole effect."""
        if not card.tells_probs:
            raise BadInput("label_only: has no effect, because the layers inside disclose labels only")
        for name, value in (("top_k", card.top_k), ("rounding", card.digits), ("temperature", card.temperature)):
            if value is not None:
                raise Redundant(
                    f"label_only: withholds the probabilities, so {name} inside it has no effect; leave one out",
                    replace(card, tells_probs=False),
                )
        return replace(card, tells_probs=False)
