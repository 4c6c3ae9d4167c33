"""RMIA: the likelihood ratio of a row, compared with those of many other rows.

Source: Zarifzadeh, Liu, Shokri, "Low-Cost High-Power Membership Inference Attacks", ICML 2024, section 3
(equations 5 to 9) and appendix B.2 (how a is chosen). The authors' code (privacytrustlab/ml_privacy_meter)
estimates P(z) offline by the greatest half of the reference models' signals; here the models that z did not train
estimate it, as in the paper. The temperature divides the logarithm of the odds of the true label, in place of all
logits.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from attacker.membership.references import Compared, Referenced
from wire import Array, BadInput

SLOPES, TEMPERATURES = tuple(np.linspace(0, 1, 11)), (1.0, 2.0, 4.0)


@dataclass(frozen=True)
class Rmia(Referenced):
    """RMIA: a member's probability exceeds its average over models by more than other rows' do (ICML 2024).

    The ratio of a row is the probability of its label by the victim, divided by its probability over all models.
    Online, the latter is the mean of two means: over the models that the row trained, and over the others.
    Offline, only the second is known, and the first is estimated as ``a`` times it, plus ``1 - a``. The score is
    the share of the population whose ratio, times gamma, is at most the candidate's; among candidates with equal
    shares, the greater ratio scores higher.

    ``a`` and the temperature are by default those with which the attack finds best what trained the first
    reference model; with fewer than four models, they are 0.3 and 2, as for CIFAR-10 in the paper.

    Attributes:
        gamma: How many times the ratio of another row a member's must be.
        a: Slope of the estimate of the mean over models that a row trained, offline.
        temperature: Divisor of the logarithm of a label's odds.
    """

    gamma: float = 1.0
    a: float | None = None
    temperature: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.gamma > 0 or not 0 <= (self.a or 0) <= 1 or not (self.temperature or 1) > 0:
            raise BadInput(f"{self}: gamma and temperature must be greater than 0, and a between 0 and 1")
        if self.online and self.references < 2:
            raise BadInput(f"{self}: online, references must be at least 2; offline, one is enough")

    def values(self, found: Compared) -> Array:
        """Returns how much of the population each row's ratio exceeds."""
        victim, references, member = found.confidences()
        a, temperature = self._chosen(references[..., 0], member)
        ratios = self._ratios(victim[:, 0], references[..., 0], member, a, temperature)
        return self._exceeded(ratios, ratios[: found.population])

    def _ratios(self, victim: Array, references: Array, member: Array, a: float, temperature: float) -> Array:
        """Returns each row's likelihood ratio, ``(n,)``; NaN without the models to estimate it.

        Args:
            victim: Logarithms of odds by the victim, ``(n,)``.
            references: The same by the reference models, ``(N, n)``.
            member: Which rows trained which of them, ``(N, n)``.
            a: See the class.
            temperature: Likewise.
        """
        probs = expit(references / temperature)
        outside = _mean(probs, ~member)
        inside = _mean(probs, member) if self.online else a * outside + 1 - a
        ratios: Array = expit(victim / temperature) / ((inside + outside) / 2)
        return ratios

    def _exceeded(self, ratios: Array, population: Array) -> Array:
        """Returns the share of the population that each ratio exceeds gamma times."""
        known = np.sort(population[np.isfinite(population)])
        share = np.searchsorted(known, ratios / self.gamma, side="right") / len(known)
        return np.asarray(share + ratios / ratios[np.isfinite(ratios)].max() / (2 * len(known)))

    def _chosen(self, references: Array, member: Array) -> tuple[float, float]:
        """Chooses a and the temperature by attacking the first model with all but its own pair."""
        slopes = SLOPES if self.a is None and not self.online else (self.a or 0.0,)
        choices = list(
            itertools.product(slopes, TEMPERATURES if self.temperature is None else (self.temperature,))
        )
        if len(choices) == 1:
            return choices[0]
        if len(references) < 4:
            return 0.3 if self.a is None else self.a, self.temperature or 2.0
        areas = []
        for choice in choices:
            ratios = self._ratios(references[0], references[2:], member[2:], *choice)
            usable = np.isfinite(ratios)
            areas.append(roc_auc_score(member[0, usable], ratios[usable]))
        return choices[int(np.argmax(areas))]


def _mean(values: Array, chosen: Array) -> Array:
    """Returns the mean over the chosen models, ``(n,)``, of values ``(N, n)``; NaN for rows without any."""
    count = chosen.sum(axis=0)
    return np.asarray(np.where(chosen, values, 0).sum(axis=0) / np.where(count, count, np.nan))
