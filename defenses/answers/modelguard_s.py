"""ModelGuard-S: answers are quantised, so that few of them differ.

Source: Tang, Dai, Tan, Dai, Mitra, Jain, "ModelGuard: Information-Theoretic Defense Against Model Extraction
Attacks", USENIX Security 2024, section 5 (ModelGuard-S, ordered incremental quantisation).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from defenses.answers.renormalised import needs_probabilities, probs_of
from defenses.defense import Layer, RowWise, Stage
from defenses.site import Site
from wire import Answer, Array, BadInput, Card


@dataclass(frozen=True)
class ModelguardS:
    """Tells the first earlier answer with the same label that differs by at most ``epsilon``.

    If there is none, the answer is told as it is, and joins those that are told again. So a row always gets the
    same answer from a process. Several workers, and a server that starts anew, each begin without earlier answers.

    Attributes:
        epsilon: Largest change of an answer, as the sum of the absolute changes of all probabilities, at most 2.
        most: Most answers that are kept for a label; beyond, the nearest of them is told, however far.
    """

    epsilon: float
    most: int = 4096

    stage: ClassVar[Stage] = Stage.NOISE

    def __post_init__(self) -> None:
        if not 0 < self.epsilon <= 2 or self.most < 1:
            raise BadInput(
                f"modelguard_s: epsilon must be greater than 0 and at most 2, and most at least 1, "
                f"not {self.epsilon} and {self.most}"
            )

    def bind(self, site: Site) -> Layer:
        """Returns the layer that quantises, with no earlier answers."""
        kept: dict[int, Array] = {}
        return RowWise(lambda x, answer: self.quantised(kept, answer))

    def quantised(self, kept: dict[int, Array], answer: Answer) -> Answer:
        """Returns the told answer, and adds to those that are kept, ``(m, k)`` for each label, in place."""
        probs = probs_of(answer).copy()
        for row, label in enumerate(answer.labels.tolist()):
            known = kept.get(label, probs[:0])
            far = np.abs(known - probs[row]).sum(axis=1)
            near = np.flatnonzero(far <= self.epsilon)
            if len(near):
                probs[row] = known[near[0]]
            elif len(known) < self.most:
                kept[label] = np.concatenate([known, probs[row : row + 1]])
            else:
                probs[row] = known[far.argmin()]
        return Answer(answer.labels, probs)

    def disclose(self, card: Card) -> Card:
        """Stands inside top-k, rounding and label-only."""
        return needs_probabilities("modelguard_s", card)
