"""The owner's holdings for selected dataset inference: images, twins, and simulated thefts of the twins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from owner.twins.twins import Predict, Twins, answering
from wire import Answer, Array, BadInput, Labels
from zoo.data.pool import Pool

Ask = Callable[[Array], Answer]
Signal = Callable[[Ask, Array, Labels, Pool], Array]

PART = 200  # images whose signals are computed at a time


@dataclass(frozen=True, eq=False)
class Known:
    """The owner's images and models.

    Attributes:
        twins: The victim, its twins and the reference rows.
        pool: All images with their labels: the private ones, then the unseen ones.
        private: Number of private images.
        twin_bits: Whether each twin was trained on each image, ``(M, n)`` bool.
        thefts: Simulated thefts of twins, which map rows to probabilities.
        theft_bits: Whether the victim of each theft was trained on each image, ``(S, n)`` bool.
        seed: Secret seed of the choice among the candidates.
    """

    twins: Twins
    pool: Pool
    private: int
    twin_bits: Array
    thefts: Sequence[Predict]
    theft_bits: Array
    seed: tuple[int, ...]

    @property
    def truth(self) -> Labels:
        """The true labels of the images, ``(n,)``."""
        assert self.pool.y is not None
        return self.pool.y

    @property
    def share(self) -> float:
        """Share of the images that train a model."""
        return self.private / len(self.pool)

    def signals(self, models: Sequence[Predict], signal: Signal, images: Labels) -> Array:
        """Returns the signals of models for images, by their numbers, ``(len(models), len(images))``."""
        found = np.empty((len(models), len(images)))
        for model, row in zip(tqdm(models, desc="signals", unit="model", leave=False), found, strict=True):
            for start in range(0, len(images), PART):
                part = images[start : start + PART]
                row[start : start + PART] = signal(
                    answering(model), self.pool.x[part], self.truth[part], self.twins.reference
                )
        return found

    def drawn(self, candidates: Labels, count: int) -> Labels:
        """Draws as many private as unseen images among candidates, and returns their places in random order.

        Raises:
            BadInput: There are too few.
        """
        private = candidates < self.private
        rng = np.random.default_rng(self.seed)
        sides = [np.flatnonzero(side) for side in (private, ~private)]
        if min(map(len, sides)) < count:
            raise BadInput(
                f"the candidates are {len(sides[0])} private and {len(sides[1])} unseen images; expected at least "
                f"{count} of each: use more candidates, or fewer images"
            )
        return rng.permutation(np.concatenate([rng.permutation(side)[:count] for side in sides]))
