"""Membership inference by a threshold for each class, which reference models set.

Source: Song, Mittal, "Systematic Evaluation of Privacy Risks of Machine Learning Models", USENIX Security 2021,
section 3 (confidence, entropy and modified entropy, with thresholds that depend on the class).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from sklearn.metrics import roc_curve

from attacker.asking import needs_probs
from attacker.extraction.targets import targets
from attacker.membership.references import Referenced
from attacker.membership.signals import log_odds
from wire import Answer, Array, Labels, Oracle
from zoo.data.pool import Pool

LEAST = 1e-30  # of what a logarithm is taken of, as in the authors' code


@dataclass(frozen=True)
class Threshold(Referenced):
    """Class-dependent thresholds on confidence or entropy, set by reference models (USENIX Security 2021).

    The threshold of a class is the one with which the reference models' members are told best from the other rows
    of the class, by the mean of true positive and true negative rate. The score is the distance from it. Classes
    without enough rows have the threshold of all.

    Attributes:
        measure: What is compared: the logarithm of the odds of the true label; the entropy of the answer; or the
            modified entropy, which is least where the answer is sure of the true label.
    """

    references: int = 4
    online: bool = False
    measure: Literal["confidence", "entropy", "modified_entropy"] = "modified_entropy"

    @property
    def threshold(self) -> float:
        """None of the distance from the class's threshold."""
        return 0.0

    def infer(self, oracle: Oracle, x: Array, y: Labels, shadow: Pool, rng: np.random.Generator) -> Array:
        """Returns how far each candidate is beyond the threshold of its class; see :class:`Membership`."""
        needs_probs(oracle.card)
        found = self.compare(oracle, x, y, shadow, rng, further=True)
        own = np.concatenate([self._signal(answer, found.y, found.classes) for answer in found.references])
        labels, member = np.tile(found.y, len(found.references)), found.member.ravel()
        rows = len(found.victim)
        values = self._signal(found.victim, found.y[:rows], found.classes)
        general, beyond = _best(own, member), np.empty(rows)
        for label in np.unique(found.y[:rows]):
            of, here = labels == label, found.y[:rows] == label
            enough = member[of].any() and not member[of].all()
            beyond[here] = values[here] - (_best(own[of], member[of]) if enough else general)
        return found.scores(beyond, len(x))

    def _signal(self, answer: Answer, y: Labels, classes: int) -> Array:
        """Returns the measure, ``(n,)``, with the sign that is greater for members."""
        if self.measure == "confidence":
            return log_odds(answer, y, classes)
        p = targets(answer, classes).astype(np.float64)
        if self.measure == "entropy":
            return np.asarray((p * np.log(np.maximum(p, LEAST))).sum(axis=1))
        true, rows = p[np.arange(len(y)), y], np.arange(len(y))
        others = p * np.log(np.maximum(1 - p, LEAST))
        others[rows, y] = 0
        return np.asarray((1 - true) * np.log(np.maximum(true, LEAST)) + others.sum(axis=1))


def _best(values: Array, member: Array) -> float:
    """Returns the threshold above which members are told best, halfway to the next value below it."""
    false, true, limits = roc_curve(member, values, drop_intermediate=False)
    best = int(np.argmax(true - false))
    if not np.isfinite(limits[best]):
        return float(values.max())
    below = values[values < limits[best]]
    return float((limits[best] + (below.max() if len(below) else limits[best] - 1)) / 2)
