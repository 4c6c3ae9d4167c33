"""Membership inference from whether the label is correct: the baseline of all other attacks.

Source: Yeom, Giacomelli, Fredrikson, Jha, "Privacy Risk in Machine Learning: Analyzing the Connection to
Overfitting", CSF 2018, section 3 (the adversary under a bounded 0-1 loss). The name "gap attack" is from
Choquette-Choo et al., "Label-Only Membership Inference Attacks", ICML 2021.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from attacker.membership.membership import ask
from wire import Array, Labels, Oracle
from zoo.data.pool import Pool


@dataclass(frozen=True)
class Gap:
    """Label-only gap attack: predicts membership if the label is correct (Yeom et al., CSF 2018).

    Its balanced accuracy is ``1/2 + (acc_train - acc_test) / 2``, set by the gap between training and test
    accuracy.
    """

    @property
    def threshold(self) -> float:
        """Between the two scores."""
        return 0.5

    def infer(self, oracle: Oracle, x: Array, y: Labels, shadow: Pool, rng: np.random.Generator) -> Array:
        """Returns 1 for each candidate that the model labels correctly, else 0; see :class:`Membership`."""
        scores = np.full(len(x), np.nan)
        answered, answer = ask(oracle, x, rng)
        scores[answered] = answer.labels == y[answered]
        return scores
