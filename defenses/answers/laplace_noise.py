"""Adds Laplace noise to the probabilities, always the same noise for the same row.

Source: the distribution of the Laplace mechanism (Dwork, McSherry, Nissim, Smith, "Calibrating Noise to
Sensitivity in Private Data Analysis", TCC 2006, section 3). Sensitivity is not bounded here, so the noise gives no
differential privacy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from defenses.answers.grid import ANY, Grid
from defenses.answers.renormalised import needs_probabilities, probs_of, renormalised
from defenses.answers.row_noise import row_noise
from defenses.defense import Layer, RowWise, Stage
from defenses.site import Site
from wire import Answer, Array, BadInput, Card


@dataclass(frozen=True)
class LaplaceNoise:
    """Adds Laplace noise to each probability, clips at zero and normalises; the label is the new maximum.

    Attributes:
        scale: Scale of the noise, in units of probability; the standard deviation is 1.414 times the scale.
    """

    scale: float

    stage: ClassVar[Stage] = Stage.NOISE

    def __post_init__(self) -> None:
        if not 0 < self.scale < math.inf:
            raise BadInput(f"laplace_noise: scale must be positive and finite, not {self.scale}")

    def bind(self, site: Site) -> Layer:
        """Returns the layer that adds noise drawn with the site's key."""

        def noisy(x: Array, answer: Answer) -> Answer:
            probs = probs_of(answer)
            return renormalised(probs + self.noise(site.secret, x, probs.shape[1], site.grid))

        return RowWise(noisy)

    def noise(self, secret: bytes, x: Array, k: int, grid: Grid = ANY) -> Array:
        """Returns the noise for rows ``x``, ``(n, ...)``, and k classes: ``(n, k)``."""
        centred = row_noise(secret, x, k, grid) - 0.5
        return np.asarray(-self.scale * np.sign(centred) * np.log1p(-2 * np.abs(centred)))

    def disclose(self, card: Card) -> Card:
        """Returns the card with the noise; the layer must stand inside top-k, rounding and label-only."""
        return replace(needs_probabilities("laplace_noise", card), noise=math.sqrt(2) * self.scale)
