"""Dataset inference as its authors ran it, beside the same test with the rows that the paper describes.

Source: Maini, Yaghini, Papernot, "Dataset Inference: Ownership Resolution in Machine Learning", ICLR 2021. The
mixing of rows and the harmonic mean over draws follow the authors' code
(``cleverhans-lab/dataset-inference``, commit 24baf46: ``src/attacks.py`` and the notebooks); the features of the
Blind Walk are those of :mod:`~owner.dataset_inference.blind_walk`.

An image has 30 features: three norms by ten targets (MinGD) or by ten random starts (Blind Walk). The notebooks
transpose the whole table, ``(images, 10, 3)``, before they make rows of 30. So a row has one feature of 30 images,
"10 samples" are measurements of 300 images, and both halves of the rows have all images.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import stats

from owner.dataset_inference.ownership_tester import fit_regressor, rows, standardiser, welch
from wire import Array

HIDDEN, FIT_STEPS, LR = 100, 1000, 0.1  # of the regressor
SAMPLES, DRAWS = 10, 100  # rows of each side in a draw, and draws


def mixed_rows(features: Array) -> Array:
    """Makes rows as the notebooks do: from features, ``(n, s, noises)``, to ``(n, s * noises)``."""
    return features.transpose(2, 1, 0).reshape(len(features), -1)


ROWS: dict[str, Callable[[Array], Array]] = {"as published": mixed_rows, "one image a row": rows}
"""The two ways to make rows of features."""


class Inferred(NamedTuple):
    """The result of the test of a suspect.

    Attributes:
        delta_mu: Mean score of unseen rows minus that of private rows, over all held-out rows.
        p: Welch's p-value for all held-out rows.
        p_harmonic: Harmonic mean of the p-values of 100 draws of 10 rows: the published figure.
        p_draws: These p-values.
    """

    delta_mu: float
    p: float
    p_harmonic: float
    p_draws: tuple[float, ...]


def infer(
    victim: tuple[Array, Array],
    suspects: dict[str, tuple[Array, Array]],
    to_rows: Callable[[Array], Array],
    rng: np.random.Generator,
) -> dict[str, Inferred]:
    """Fits the regressor to one half of the victim's rows, and tests the other half of each suspect's.

    Args:
        victim: Features of n private and of n unseen images, ``(n, s, noises)`` each.
        suspects: The suspects' features of the same images, by name.
        to_rows: One of :data:`ROWS`.
        rng: Source of the regressor's weights and of the draws.
    """
    standard, half = standardiser(victim[0]), len(victim[0]) // 2
    private, unseen = (to_rows(standard(side))[:half] for side in victim)
    score = fit_regressor(private, unseen, HIDDEN, FIT_STEPS, LR, rng)
    found = {}
    for name, sides in suspects.items():
        one, other = (score(to_rows(standard(side))[half:]) for side in sides)
        drawn = [rng.permutation(len(one))[:SAMPLES] for _ in range(DRAWS)]
        p = [welch(one[at], other[at]).p_value for at in drawn]
        every = welch(one, other)
        harmonic = float(stats.hmean(np.maximum(p, np.finfo(float).tiny)))
        found[name] = Inferred(every.delta_mu, every.p_value, harmonic, tuple(p))
    return found
