"""Evasions of the twin test by a thief who changes the answers of a copy, or its training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch.nn import functional

from wire import Array
from zoo.augment import Change
from zoo.network import Network

Predict = Callable[[Array], Array]


def at_random(predict: Predict, share: float, seed: int) -> Predict:
    """Answers a share of the rows with a class at random."""

    def answer(x: Array) -> Array:
        probs, rng = predict(x), np.random.default_rng(seed)
        other = np.eye(probs.shape[1], dtype=probs.dtype)[rng.integers(probs.shape[1], size=len(x))]
        return np.where(rng.random((len(x), 1)) < share, other, probs)

    return answer


def noisy(predict: Predict, sigma: float, seed: int) -> Predict:
    """Adds Gaussian noise to the probabilities, so that the label of an unsure answer changes."""

    def answer(x: Array) -> Array:
        probs = predict(x)
        return np.asarray(probs + np.random.default_rng(seed).normal(0, sigma, probs.shape), probs.dtype)

    return answer


def averaged(copies: Sequence[Predict]) -> Predict:
    """Answers with the mean of several copies."""
    return lambda x: np.mean([copy(x) for copy in copies], axis=0)


def worst_case(network: Network, eps: float) -> Change:
    """Returns the change of rows that makes a network robust: a step of the fast gradient sign method.

    Source: Goodfellow, Shlens, Szegedy, "Explaining and Harnessing Adversarial Examples", ICLR 2015, section 6;
    away from the network's own label, as in Kurakin, Goodfellow, Bengio, "Adversarial Machine Learning at Scale",
    ICLR 2017.
    """
    card = network.card()

    def change(x: torch.Tensor, order: torch.Generator) -> torch.Tensor:
        x = x.detach().requires_grad_()
        logits = network.module(x)
        (gradient,) = torch.autograd.grad(functional.cross_entropy(logits, logits.argmax(1)), x)
        moved = (x + eps * gradient.sign()).detach()
        return moved if card.low is None else moved.clamp(card.low, card.high)

    return change


EVASIONS: Mapping[str, Callable[[Predict, int], Predict]] = {
    "20 % at random": lambda predict, seed: at_random(predict, 0.2, seed),
    "40 % at random": lambda predict, seed: at_random(predict, 0.4, seed),
    "noise of 0.1": lambda predict, seed: noisy(predict, 0.1, seed),
}
"""Changes of answers, by name, which need no training."""
