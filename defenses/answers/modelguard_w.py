"""ModelGuard-W: the answer of greatest cross-entropy within a bound.

Source: Tang, Dai, Tan, Dai, Mitra, Jain, "ModelGuard: Information-Theoretic Defense Against Model Extraction
Attacks", USENIX Security 2024, section 5 (ModelGuard-W).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from defenses.answers.renormalised import needs_probabilities, probs_of, renormalised
from defenses.defense import Layer, RowWise, Stage
from defenses.site import Site
from wire import Answer, Array, BadInput, Card

_LEAST = 1e-7  # of a probability, in its logarithm
_STEPS = 60


@dataclass(frozen=True)
class ModelguardW:
    """Tells the y' for which ``sum_k y'_k log y_k`` is least, with ``|y' - y|_1 <= epsilon`` and the same label.

    This linear program is solved for all rows at once. For a given probability of the label, mass is moved from
    the most to the least probable classes, none of which may exceed the label. The least value is a convex
    function of that probability, which a search by thirds finds.

    Attributes:
        epsilon: Largest change of an answer, as the sum of the absolute changes of all probabilities, at most 2.
    """

    epsilon: float

    stage: ClassVar[Stage] = Stage.NOISE

    def __post_init__(self) -> None:
        if not 0 < self.epsilon <= 2:
            raise BadInput(f"modelguard_w: epsilon must be greater than 0 and at most 2, not {self.epsilon}")

    def bind(self, site: Site) -> Layer:
        """Returns the layer that changes probabilities."""
        return RowWise(lambda x, answer: self.changed(answer))

    def changed(self, answer: Answer) -> Answer:
        """Returns the changed answer."""
        y = probs_of(answer).astype(np.float64)
        rows, low = np.arange(len(y)), np.full(len(y), 1 / y.shape[1])
        high = np.minimum(1, y[rows, answer.labels] + self.epsilon / 2)
        for _ in range(_STEPS):
            third = (high - low) / 3
            left, right = (self._cost(y, answer.labels, t)[0] for t in (low + third, high - third))
            lower = left <= right
            lower &= np.isfinite(left)
            low, high = np.where(lower, low, low + third), np.where(lower, high - third, high)
        told = probs_of(renormalised(self._cost(y, answer.labels, high)[1]))
        told[rows, answer.labels] = told.max(axis=1)  # equal ones may differ in the last bit
        return Answer(answer.labels, told)

    def _cost(self, y: Array, labels: Array, t: Array) -> tuple[Array, Array]:
        """Returns the least value where the label has ``t``, ``(n,)``, infinite out of reach, and the answers."""
        rows = np.arange(len(y))
        taken, given = np.maximum(y[rows, labels] - t, 0), np.maximum(t - y[rows, labels], 0)  # of the label
        others = y.copy()
        others[rows, labels] = 0
        order = np.argsort(np.where(np.arange(y.shape[1]) == labels[:, None], np.inf, y), axis=1, kind="stable")
        sorted_ = np.take_along_axis(others, order, 1)[:, :-1]  # the label comes last
        room = np.maximum(t[:, None] - sorted_, 0)
        free = np.clip(1 - t[:, None] * np.arange(1, y.shape[1]), 0, t[:, None])  # the best, whatever the distance
        moved = np.minimum(self.epsilon / 2, given + np.maximum(free - sorted_, 0).sum(axis=1))
        filled = np.clip((moved - given)[:, None] - (np.cumsum(room, axis=1) - room), 0, room)
        falling = sorted_[:, ::-1]
        spent = np.clip((moved - taken)[:, None] - (np.cumsum(falling, axis=1) - falling), 0, falling)[:, ::-1]
        new = np.empty_like(y)
        np.put_along_axis(new, order, np.concatenate([sorted_ + filled - spent, t[:, None]], axis=1), 1)
        value = (new * np.log(np.maximum(y, _LEAST))).sum(axis=1)
        within = (moved >= taken + given - 1e-12) & (new.max(axis=1) <= t + 1e-9)
        return np.where(within, value, np.inf), new

    def disclose(self, card: Card) -> Card:
        """Stands inside top-k, rounding and label-only."""
        return needs_probabilities("modelguard_w", card)
