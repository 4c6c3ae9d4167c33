"""The ownership tester: a confidence regressor on the victim's features, and Welch's test on a suspect's scores.

Source: Maini, Yaghini, Papernot, "Dataset Inference: Ownership Resolution in Machine Learning", ICLR 2021,
    "Ownership
Tester".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import stats

from wire import Array


def standardiser(private: Array) -> Callable[[Array], Array]:
    """Returns a function that standardises features per noise distribution by the victim's private images.

    Args:
        private: The victim's features of private images, ``(n, starts, noises)``.
    """
    mean, std = private.mean(axis=(0, 1)), private.std(axis=(0, 1))
    return lambda features: (features - mean) / std


def rows(features: Array) -> Array:
    """Flattens features, ``(n, starts, noises)``, to one row per image, ``(n, starts * noises)``."""
    return features.reshape(len(features), -1)


def fit_regressor(
    private: Array, unseen: Array, hidden: int, steps: int, lr: float, rng: np.random.Generator
) -> Callable[[Array], Array]:
    """Fits the confidence regressor g: Linear, ReLU, Linear, Tanh; -1 for private and +1 for unseen images.

    Args:
        private: The victim's features of private images, ``(n, f)``; b = -1.
        unseen: The victim's features of unseen images, ``(m, f)``; b = +1.
        hidden: Number of hidden units.
        steps: Number of full-batch gradient steps on the loss, the mean of ``-b * g(e)``.
        lr: Learning rate.
        rng: Source of the initial weights.

    Returns:
        A function from features, ``(n, f)``, to scores, ``(n,)``, in [-1, 1].
    """
    import torch  # deferred, so that zoo, which configures torch's threads, is imported first

    e = torch.from_numpy(np.concatenate([private, unseen]))
    b = torch.tensor([-1.0] * len(private) + [1.0] * len(unseen), dtype=torch.float64)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**63)))
        g = torch.nn.Sequential(
            torch.nn.Linear(e.shape[1], hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, 1), torch.nn.Tanh()
        ).double()
    descent = torch.optim.SGD(g.parameters(), lr=lr)
    for _ in range(steps):
        descent.zero_grad()
        loss = -(b * g(e).squeeze(1)).mean()
        loss.backward()
        descent.step()

    def score(features: Array) -> Array:
        with torch.no_grad():
            return np.asarray(g(torch.from_numpy(features)).squeeze(1))

    return score


class Welch(NamedTuple):
    """The result of :func:`welch`; the fields are those of :class:`~owner.evidence.Evidence` and its details."""

    statistic: float
    degrees_of_freedom: float
    p_value: float
    delta_mu: float
    interval: tuple[float, float]


def welch(private: Array, unseen: Array) -> Welch:
    """Tests H1: the mean score of unseen images, ``(m,)``, is greater than that of private images, ``(n,)``.

    If all scores are equal (a suspect far from the victim saturates the regressor), p is 1.
    """
    if np.ptp(np.concatenate([private, unseen])) == 0:
        return Welch(0.0, float(len(private) + len(unseen) - 2), 1.0, 0.0, (0.0, 0.0))
    test = stats.ttest_ind(unseen, private, equal_var=False, alternative="greater")
    interval = stats.ttest_ind(unseen, private, equal_var=False).confidence_interval(0.95)
    return Welch(
        float(test.statistic),
        float(test.df),
        float(test.pvalue),
        float(unseen.mean() - private.mean()),
        (float(interval.low), float(interval.high)),
    )
