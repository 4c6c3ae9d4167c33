"""The Blind Walk as a membership attack: how far along random directions a row's label stays right.

Source: Maini, Yaghini, Papernot, "Dataset Inference: Ownership Resolution in Machine Learning", ICLR 2021,
"Embedding Generation" (the walk, for whole data sets; single rows are left to future work). A walk there takes
equal steps and stops at a wrong label. Here steps double, so that a few span all distances, and all are asked
about at once. Carlini et al., "Membership Inference Attacks From First Principles", IEEE S&P 2022, V and VI
(how reference models calibrate a row's distance: here walks from it, which cost nothing).
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from attacker.membership.lira import likelihood_ratio
from attacker.membership.references import Compared, Referenced
from attacker.membership.signals import right
from wire import Array, BadInput, Card


@dataclass(frozen=True)
class BlindWalk(Referenced):
    """Blind Walk: a row lies further from the boundary of a model that it trained (ICLR 2021). Needs labels alone.

    From each row lead walks along uniform, Gaussian and Laplace noise. The length of a walk is the number of rows
    before the first wrong label, itself included. The score compares the mean length with those by reference
    models, as LiRA compares confidences.

    Attributes:
        walks: Walks along each of the three kinds of noise.
        steps: Steps of a walk; each is twice as far from the row as the one before.
        distance: Standard deviation of the first step, in units of a feature's range.
    """

    labels_suffice: ClassVar[bool] = True

    walks: int = 2
    steps: int = 4
    distance: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.walks, self.steps) < 1 or not 0 < self.distance < np.inf or self.references < 4:
            raise BadInput(f"{self}: walks, steps and distance must be positive, and references at least 4")

    @property
    def threshold(self) -> float | None:
        """The logarithm of equal likelihoods, if both are known."""
        return 0.0 if self.online else None

    def copied(self, card: Card, rows: Array) -> Array:
        """Returns each row itself, then the steps of its walks; the directions are a function of the row."""
        width = 1.0 if card.low is None or card.high is None else card.high - card.low
        far = self.distance * width * 2.0 ** np.arange(self.steps)
        made = [self._walked(row, far, card) for row in rows]
        return np.concatenate(made) if made else rows

    def values(self, found: Compared) -> Array:
        """Returns the log-likelihood ratio of each row's mean distance."""
        victim, references, member = found.signals(right)
        return likelihood_ratio(self._length(victim), self._length(references), member, self.online)

    def _walked(self, row: Array, far: Array, card: Card) -> Array:
        """Returns a row and all steps of its walks, ``(1 + 3 walks steps, *input_shape)``."""
        rng = np.random.default_rng(zlib.crc32(np.ascontiguousarray(row).data))
        shape, half = (self.walks, *row.shape), 3**0.5  # of standard deviation 1
        noise = [rng.uniform(-half, half, shape), rng.normal(0, 1, shape), rng.laplace(0, 0.5**0.5, shape)]
        steps = np.concatenate(noise)[:, None] * far.reshape(-1, *[1] * row.ndim)
        walked = np.clip(row + steps.reshape(-1, *row.shape), card.low, card.high)
        return np.concatenate([row[None], walked]).astype(np.float32)

    def _length(self, right: Array) -> Array:
        """Returns the mean length of the walks, ``(..., 1)``, of which steps are right, ``(..., q)``."""
        itself, steps = right[..., :1], right[..., 1:]
        walks = steps.reshape(*right.shape[:-1], -1, self.steps)
        before = np.cumprod(walks, axis=-1).sum(axis=-1)
        return np.asarray(itself * (1 + before.mean(axis=-1, keepdims=True)))
