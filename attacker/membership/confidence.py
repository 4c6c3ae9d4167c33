"""Membership inference from the confidence in the true label.

Source: Yeom, Giacomelli, Fredrikson, Jha, "Privacy Risk in Machine Learning: Analyzing the Connection to
Overfitting", CSF 2018, section 3 (the adversary that thresholds the loss).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from attacker.asking import needs_probs
from attacker.membership.membership import ask
from wire import Array, Labels, Oracle
from zoo.data.pool import Pool


@dataclass(frozen=True)
class Confidence:
    """Confidence threshold: members get a higher probability of their true label (Yeom et al., CSF 2018).

    The paper predicts membership if a row's loss is at most the mean loss on the training set. The cross-entropy
    loss is ``-log p_y``, so this is a threshold on ``p_y``, the probability of the true label. The score is
    ``p_y``; no threshold is chosen.

    A withheld ``p_y`` (top-k) counts as 0, since the true label is not among the k likeliest.
    """

    def infer(self, oracle: Oracle, x: Array, y: Labels, shadow: Pool, rng: np.random.Generator) -> Array:
        """Returns the probability of each candidate's true label; see :class:`Membership`."""
        needs_probs(oracle.card)
        scores = np.full(len(x), np.nan)
        answered, answer = ask(oracle, x, rng)
        if answer.probs is not None:
            scores[answered] = np.nan_to_num(answer.probs)[np.arange(len(answered)), y[answered]]
        return scores
