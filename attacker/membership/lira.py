"""LiRA: a likelihood ratio of normal distributions for each row.

Source: Carlini, Chien, Nasr, Song, Terzis, Tramèr, "Membership Inference Attacks From First Principles", IEEE S&P
2022, sections V and VI. The authors' code (tensorflow/privacy, mi_lira_2021) centres the distributions on medians
and scores offline by a two-sided density; here means and the paper's one-sided tail are used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import norm

from attacker.membership.copies import shifted
from attacker.membership.references import Compared, Referenced
from wire import Array, BadInput, Card

FEWEST = 32  # of models on one side, for a variance of its own


@dataclass(frozen=True)
class Lira(Referenced):
    """LiRA: a likelihood ratio of each row's confidence among models that it trained and others (S&P 2022).

    The logarithm of the odds of the true label is roughly normal among models. Online, the score is the logarithm
    of the ratio of its two densities. Offline, it is that of the probability of a lower confidence among models
    that the row did not train.

    Attributes:
        variance: Whose variance a distribution has: the row's own; the mean over all rows, for few models; or
            auto, which is the row's own from 64 models on.
        queries: Copies of each row to query: itself, then shifted images; their likelihoods are multiplied.
    """

    variance: Literal["auto", "own", "global"] = "auto"
    queries: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.queries < 1 or self.references < 4:
            raise BadInput(f"{self}: queries must be at least 1, and references at least 4")

    @property
    def threshold(self) -> float | None:
        """The logarithm of equal likelihoods, if both are known."""
        return 0.0 if self.online else None

    def copied(self, card: Card, rows: Array) -> Array:
        """Returns each row itself, and shifted images."""
        return shifted(rows, self.queries)

    def values(self, found: Compared) -> Array:
        """Returns the log-likelihood ratio of each row."""
        victim, references, member = found.confidences()
        few = len(references) < 2 * FEWEST
        alike = self.variance == "global" or (self.variance == "auto" and few)
        return likelihood_ratio(victim, references, member, self.online, alike=alike)


def likelihood_ratio(
    victim: Array, references: Array, member: Array, online: bool, *, alike: bool = True
) -> Array:
    """Returns the logarithm of the likelihood ratio of each row, ``(n,)``; its copies' are averaged.

    Args:
        victim: Signals of the victim, ``(n, q)``.
        references: Signals of reference models, ``(N, n, q)``.
        member: Which rows trained which of them, ``(N, n)`` bool.
        online: Whether the models that a row trained are compared too.
        alike: Whether all rows have one variance, the mean of theirs.
    """
    outside = normal(references, ~member, alike)
    if online:
        inside = normal(references, member, alike)
        ratios = np.asarray(norm.logpdf(victim, *inside) - norm.logpdf(victim, *outside))
    else:
        ratios = -np.asarray(norm.logsf(victim, *outside))
    return np.asarray(ratios.mean(axis=1))


def normal(references: Array, chosen: Array, alike: bool) -> tuple[Array, Array]:
    """Fits normal distributions to the chosen models' signals.

    Args:
        references: Signals, ``(N, n, q)``.
        chosen: The models of each row, ``(N, n)`` bool.
        alike: Whether all rows have one variance.

    Returns:
        Means and standard deviations, ``(n, q)`` each.
    """
    signals = np.where(chosen[..., None], references, np.nan)
    mean = np.nanmean(signals, axis=0)
    variances = np.nanvar(signals, axis=0, ddof=1)
    if alike:
        variances = np.broadcast_to(np.nanmean(variances, axis=0), variances.shape)
    return mean, np.sqrt(variances) + 1e-30
