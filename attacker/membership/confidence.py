"""Membership inference from the confidence in the true label.

Source: Yeom, Giacomelli, Fredrikson, Jha, "Privacy Risk in Machine Learning: Analyzing the Connection to
Overfitting", CSF 2018, section 3 (the adversary that thresholds the loss).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from attacker.asking import needs_probs
from attacker.membership.membership import ask
from attacker.membership.signals import log_odds
from wire import Array, Labels, Oracle
from zoo.data.pool import Pool


@dataclass(frozen=True)
class Confidence:
    """Confidence threshold: members get a higher probability of their true label (Yeom et al., CSF 2018).

    The paper predicts membership if a row's loss is at most the mean loss on the training set. The cross-entropy
    loss is ``-log p_y``, so this is a threshold on ``p_y``, the probability of the true label. The score is the
    logarithm of its odds, in the order of ``p_y`` where that rounds to 1 too; no threshold is chosen.

    Mass that top-k withholds is spread over the withheld classes. A row that is hard for every model has a low
    score whether it is a member or not, so that with more information this attack can do worse than :class:`Gap`.
    """

    @property
    def threshold(self) -> None:
        """None: the mean loss on the training set is not known."""
        return None

    def infer(self, oracle: Oracle, x: Array, y: Labels, shadow: Pool, rng: np.random.Generator) -> Array:
        """Returns the logarithm of the odds of each candidate's true label; see :class:`Membership`."""
        needs_probs(oracle.card)
        scores = np.full(len(x), np.nan)
        answered, answer = ask(oracle, x, rng)
        scores[answered] = log_odds(answer, y[answered], oracle.card.classes)
        return scores
