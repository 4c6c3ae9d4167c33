"""Adds Gaussian noise to the probabilities, always the same noise for the same row.

Source: Tramer et al., "Stealing Machine Learning Models via Prediction APIs", USENIX Security 2016, section 7,
discuss perturbing confidences with noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

from scipy.special import ndtri

from defenses.answers.grid import ANY, Grid
from defenses.answers.renormalised import needs_probabilities, probs_of, renormalised
from defenses.answers.row_noise import row_noise
from defenses.defense import Layer, RowWise, Stage
from defenses.site import Site
from wire import Answer, Array, BadInput, Card


@dataclass(frozen=True)
class GaussianNoise:
    """Adds normal noise to each probability, clips at zero and normalises; the label is the new maximum.

    Attributes:
        sigma: Standard deviation of the noise, in units of probability.
    """

    sigma: float

    stage: ClassVar[Stage] = Stage.NOISE

    def __post_init__(self) -> None:
        if not 0 < self.sigma < math.inf:
            raise BadInput(f"gaussian_noise: sigma must be positive and finite, not {self.sigma}")

    def bind(self, site: Site) -> Layer:
        """Returns the layer that adds noise drawn with the site's key."""

        def noisy(x: Array, answer: Answer) -> Answer:
            probs = probs_of(answer)
            return renormalised(probs + self.noise(site.secret, x, probs.shape[1], site.grid))

        return RowWise(noisy)

    def noise(self, secret: bytes, x: Array, k: int, grid: Grid = ANY) -> Array:
        """Returns the noise for rows ``x``, ``(n, ...)``, and k classes: ``(n, k)``."""
        return self.sigma * ndtri(row_noise(secret, x, k, grid))

    def disclose(self, card: Card) -> Card:
        """Returns the card with the noise; the layer must stand inside top-k, rounding and label-only."""
        return replace(needs_probabilities("gaussian_noise", card), noise=self.sigma)
