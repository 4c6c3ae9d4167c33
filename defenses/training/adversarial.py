"""Adversarial training: each step trains on the worst of the images near a row.

Source: Madry, Makelov, Schmidt, Tsipras, Vladu, "Towards Deep Learning Models Resistant to Adversarial Attacks",
ICLR 2018, section 2.1 (projected gradient descent in the largest norm, from a random start).

What differs from the paper: the gradient leads away from the network's own label, not from the true one, so that
images do not betray it to the network (Kurakin, Goodfellow, Bengio, "Adversarial Machine Learning at Scale", ICLR
2017).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from wire import Array, BadInput
from zoo.augment import Change
from zoo.network import Network


@dataclass(frozen=True)
class Pgd:
    """Projected gradient descent: the worst images within a distance (ICLR 2018).

    Attributes:
        radius: Greatest change of a pixel.
        step: Size of a step.
        steps: Number of steps.
    """

    radius: float = 0.25
    step: float = 0.06
    steps: int = 7

    def __post_init__(self) -> None:
        if not (self.radius > 0 and self.step > 0 and self.steps >= 1):
            raise BadInput(f"radius and step must be greater than 0 and steps at least 1, not {self}")

    def change(self, network: Network) -> Change:
        """Returns the change of rows by which :meth:`~zoo.network.Network.fit` trains a robust network."""
        card = network.card()

        def worst(x: torch.Tensor, order: torch.Generator) -> torch.Tensor:
            moved = (x + self.radius * (2 * torch.rand(x.shape, generator=order) - 1)).detach()
            label = None
            for _ in range(self.steps):
                moved.requires_grad_()
                logits = network.module(moved)
                label = logits.argmax(1) if label is None else label
                (gradient,) = torch.autograd.grad(functional.cross_entropy(logits, label), moved)
                moved = moved.detach() + self.step * gradient.sign()
                moved = torch.minimum(torch.maximum(moved, x - self.radius), x + self.radius)
                moved = moved if card.low is None else moved.clamp(card.low, card.high)
            return moved.detach()

        return worst

    def moved(self, network: Network, x: Array, seed: int) -> Array:
        """Returns adversarial examples of rows ``x``, ``(n, *shape)``, against a network."""
        made = self.change(network)(torch.from_numpy(x), torch.Generator().manual_seed(seed))
        return np.asarray(made.numpy())
