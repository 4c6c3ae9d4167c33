"""Labels alone.

Source: Tramer, Zhang, Juels, Reiter, Ristenpart, "Stealing Machine Learning Models via Prediction APIs", USENIX
Security 2016, section 7.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from defenses.defense import Handler, Redundant
from wire import Answer, BadInput, Card, Query


@dataclass(frozen=True)
class LabelOnly:
    """Tells labels and withholds all probabilities."""

    async def __call__(self, query: Query, handle: Handler) -> Answer:
        """Answers with labels."""
        return Answer((await handle(query)).labels)

    def disclose(self, card: Card) -> Card:
        """Says that labels alone are told; refuses to hide all that a layer inside does."""
        if not card.tells_probs:
            raise BadInput("label_only: the layers inside tell labels alone already")
        for name, value in (("top_k", card.top_k), ("rounding", card.digits), ("temperature", card.temperature)):
            if value is not None:
                raise Redundant(
                    f"label_only: withholds what {name} inside it is there to change; leave one out",
                    replace(card, tells_probs=False),
                )
        return replace(card, tells_probs=False)
