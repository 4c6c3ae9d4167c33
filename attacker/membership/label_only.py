"""Membership inference from labels alone: which copies of a row are labelled correctly, calibrated by references.

Sources: Choquette-Choo, Tramèr, Carlini, Papernot, "Label-Only Membership Inference Attacks", ICML 2021, section
4.1 (copies of a row); Carlini et al., "Membership Inference Attacks From First Principles", IEEE S&P 2022,
section V (a likelihood ratio for each row). The former trains a classifier of the pattern of correct copies; here
each copy has a likelihood ratio of its own, which tells how hard it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from attacker.membership.copies import noisy, shifted
from attacker.membership.references import Compared, Referenced
from attacker.membership.signals import right
from wire import Array, BadInput, Card


@dataclass(frozen=True)
class LabelOnly(Referenced):
    """Label-only attack: whether a row's label is right, compared with reference models (ICML 2021, S&P 2022).

    A copy of a row is labelled correctly by some share of the models that the row trained, and by some share of
    the others. The score is the logarithm of the ratio of the victim's likelihoods under the two shares, over all
    copies of a row. Offline, it is the number of correct copies, less the number expected of a model that the row
    did not train.

    Attributes:
        queries: Copies of each row to query: itself, then as many as remain.
        copies: What the copies differ by: shifts (of images), or noise.
        noise: Standard deviation of the noise.
    """

    labels_suffice: ClassVar[bool] = True

    queries: int = 4
    copies: Literal["shifts", "noise"] = "noise"
    noise: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.queries < 1 or not 0 < self.noise < np.inf or self.references < 2:
            raise BadInput(f"{self}: queries and noise must be positive, and references at least 2")

    @property
    def threshold(self) -> float | None:
        """The logarithm of equal likelihoods, if both are known."""
        return 0.0 if self.online else None

    def copied(self, card: Card, rows: Array) -> Array:
        """Returns each row itself, and copies that are shifted or noisy."""
        if self.copies == "shifts":
            return shifted(rows, self.queries)
        return noisy(rows, self.queries, self.noise, card)

    def values(self, found: Compared) -> Array:
        """Returns the log-likelihood ratio of each row's labels."""
        victim, references, member = found.signals(right)
        outside = _share(references, ~member)
        if self.online:
            inside = _share(references, member)
            ratios = np.where(victim, np.log(inside / outside), np.log((1 - inside) / (1 - outside)))
        else:
            ratios = victim - outside
        return np.asarray(ratios.sum(axis=1))


def _share(right: Array, chosen: Array) -> Array:
    """Estimates how often the chosen models are right about each copy, ``(n, q)``, by Jeffreys' prior."""
    weights = chosen[..., None]
    estimate: Array = ((right * weights).sum(axis=0) + 0.5) / (weights.sum(axis=0) + 1)
    return estimate
