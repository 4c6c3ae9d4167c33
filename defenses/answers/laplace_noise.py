"""Laplace noise on the told probabilities, the same for the same row.

Source: the distribution of the Laplace mechanism (Dwork, McSherry, Nissim, Smith, "Calibrating Noise to
Sensitivity in Private Data Analysis", TCC 2006, section 3). Nothing here bounds a sensitivity, so no privacy
budget follows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from defenses.answers.renormalised import perturbed, perturbing, probs_of
from defenses.answers.row_noise import row_noise
from defenses.defense import Handler
from wire import Answer, Array, BadInput, Card, Query


@dataclass(frozen=True)
class LaplaceNoise:
    """Adds Laplace noise to each probability, cuts off what is negative and normalises; the label follows.

    Attributes:
        scale: Scale of the noise, in units of probability; the standard deviation is 1.414 times that.
        secret: Key of the noise, 1 to 64 bytes.
    """

    scale: float
    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if not 0 < self.scale < math.inf:
            raise BadInput(f"laplace_noise: scale must be positive and finite, not {self.scale}")

    async def __call__(self, query: Query, handle: Handler) -> Answer:
        """Answers with noise."""
        probs = probs_of(await handle(query))
        return perturbed(probs + self.noise(query.x, probs.shape[1]))

    def noise(self, x: Array, k: int) -> Array:
        """Returns the noise of the rows ``x``, ``(n, ...)``, for k classes: ``(n, k)``."""
        centred = row_noise(self.secret, x, k) - 0.5
        return np.asarray(-self.scale * np.sign(centred) * np.log1p(-2 * np.abs(centred)))

    def disclose(self, card: Card) -> Card:
        """Stands inside what withholds or rounds."""
        return perturbing("laplace_noise", card)
