"""Withholds the leaves that a row reaches.

Source: Tramer, Zhang, Juels, Reiter, Ristenpart, "Stealing Machine Learning Models via Prediction APIs", USENIX
Security 2016, sections 4.2 and 7 (identifiers of leaves are what path-finding needs).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from defenses.defense import Layer, RowWise, Stage
from defenses.site import Site
from wire import Answer, Card


@dataclass(frozen=True)
class WithholdLeaves:
    """Withholds the leaves of a model of trees; labels and probabilities stay.

    Any layer that changes answers withholds them too. This one changes nothing else, for plans that are to get
    probabilities in full; it may stand outside models that disclose no leaves.
    """

    stage: ClassVar[Stage] = Stage.PRECISION

    def bind(self, site: Site) -> Layer:
        """Returns the layer that withholds leaves."""
        return RowWise(lambda x, answer: Answer(answer.labels, answer.probs))

    def disclose(self, card: Card) -> Card:
        """Returns the card; the leaves are gone from it, as outside any layer of this stage."""
        return card
