"""Membership by the confidence in the true label.

Source: Yeom, Giacomelli, Fredrikson, Jha, "Privacy Risk in Machine Learning: Analyzing the Connection to
Overfitting", CSF 2018, section 3 (the adversary that thresholds the loss).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from attacker.membership.membership import ask, needs_probs
from wire import Array, Labels, Oracle
from zoo.data.pool import Pool


@dataclass(frozen=True)
class Confidence:
    """Confidence threshold: members get a higher probability of their true label (Yeom et al., CSF 2018).

    The paper calls a row a member if its loss is at most the mean loss on the training set. For cross-entropy the
    loss is ``-log p_y``, so that a threshold on it is one on ``p_y``, the probability of the true label. That is
    the score; the threshold is left open.

    A withheld ``p_y`` (top-k) counts as 0: the true label is not among the k likeliest.
    """

    def infer(self, oracle: Oracle, x: Array, y: Labels, shadow: Pool, rng: np.random.Generator) -> Array:
        """Returns the probability of each candidate's true label; see :class:`Membership`."""
        needs_probs(oracle.card)
        scores = np.full(len(x), np.nan)
        asked, answer = ask(oracle, x, rng)
        if answer.probs is not None:
            scores[asked] = np.nan_to_num(answer.probs)[np.arange(len(asked)), y[asked]]
        return scores
