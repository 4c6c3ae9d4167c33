"""Gaussian noise on the told probabilities, the same for the same row.

Source: perturbing confidences with noise is discussed by Tramer et al., "Stealing Machine Learning Models via
Prediction APIs", USENIX Security 2016, section 7.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from scipy.special import ndtri

from defenses.answers.renormalised import perturbed, perturbing, probs_of
from defenses.answers.row_noise import row_noise
from defenses.defense import Handler
from wire import Answer, Array, BadInput, Card, Query


@dataclass(frozen=True)
class GaussianNoise:
    """Adds normal noise to each probability, cuts off what is negative and normalises; the label follows.

    Attributes:
        sigma: Standard deviation of the noise, in units of probability.
        secret: Key of the noise, 1 to 64 bytes.
    """

    sigma: float
    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if not 0 < self.sigma < math.inf:
            raise BadInput(f"gaussian_noise: sigma must be positive and finite, not {self.sigma}")

    async def __call__(self, query: Query, handle: Handler) -> Answer:
        """Answers with noise."""
        probs = probs_of(await handle(query))
        return perturbed(probs + self.noise(query.x, probs.shape[1]))

    def noise(self, x: Array, k: int) -> Array:
        """Returns the noise of the rows ``x``, ``(n, ...)``, for k classes: ``(n, k)``."""
        return self.sigma * ndtri(row_noise(self.secret, x, k))

    def disclose(self, card: Card) -> Card:
        """Stands inside what withholds or rounds."""
        return perturbing("gaussian_noise", card)
