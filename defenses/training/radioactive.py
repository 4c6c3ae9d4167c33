"""Radioactive data: training images are moved so that a model that learns from them betrays it.

Source: Sablayrolles, Douze, Schmid, Jegou, "Radioactive data: tracing through training", ICML 2020, section 3
(marking: a random carrier for each class; equation 6: the features move along it, near the original in pixels and
in features) and section 4.1 (its alignment with a classifier that was trained on them). The test by answers is
``owner/radioactive.py``.

What differs from the paper: features are those of any network of the owner's (the marker), here small ones without
augmentation. A marked image stays within ``radius`` of the original in every pixel, and is rounded to bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import special, stats

from wire import Array, BadInput, Labels
from zoo.data.pool import Pool
from zoo.network import Network
from zoo.penultimate import penultimate

PASS = 500  # rows a step


@dataclass(frozen=True)
class Radioactive:
    """Radioactive data: features of training images move along secret directions (ICML 2020).

    Attributes:
        share: Share of the rows to mark.
        steps: Steps by which each image is moved.
        lr: Size of a step, of an Adam optimiser over pixels.
        radius: Most by which a pixel changes, for values from 0 to 1.
        pixels: Weight of the distance to the original in pixels (lambda 1).
        features: Weight of the distance to the original in features (lambda 2).
    """

    share: float = 0.1
    steps: int = 60
    lr: float = 0.01
    radius: float = 0.06
    pixels: float = 5e-4
    features: float = 0.01

    def __post_init__(self) -> None:
        if not (0 < self.share <= 1 and self.steps >= 1 and self.lr > 0 and 0 < self.radius <= 1):
            raise BadInput(
                f"share and radius must lie between 0 and 1, steps be at least 1 and lr greater than 0, not {self}"
            )

    def chosen(self, pool: Pool, secret: str) -> Labels:
        """Returns which rows are marked, by their numbers, in ascending order."""
        count = max(1, round(self.share * len(pool)))
        return np.sort(_rng(secret, "rows").permutation(len(pool))[:count])

    def marked(self, pool: Pool, marker: Network, secret: str) -> Pool:
        """Returns the images of a labelled pool with the mark, all of them, ``(n, *shape)``.

        Args:
            pool: Labelled rows from 0 to 1.
            marker: The network whose features are moved; it was trained on other rows, or on these.
            secret: The secret, in hexadecimal, from which the carriers follow.

        Raises:
            BadInput: The rows have no labels or are not from 0 to 1, or the marker has no penultimate layer.
        """
        if pool.y is None or pool.bounds != (0.0, 1.0):
            raise BadInput("only labelled rows with values from 0 to 1 can be marked")
        phi = penultimate(marker)
        u = torch.from_numpy(carriers(secret, marker.classes, phi.logits(pool.x[:1]).shape[1]))
        parts = [
            self._moved(phi.module, torch.from_numpy(pool.x[at : at + PASS]), u[pool.y[at : at + PASS]])
            for at in range(0, len(pool), PASS)
        ]
        return replace(pool, x=torch.cat(parts).numpy())

    def _moved(self, phi: torch.nn.Module, x: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            before = phi(x)
        change = torch.zeros_like(x, requires_grad=True)
        optimizer = torch.optim.Adam([change], self.lr)
        for _ in range(self.steps):
            moved = phi((x + change).clamp(0, 1)) - before
            loss = -(moved * u).sum() + self.features * moved.norm(dim=1).sum()
            loss = loss + self.pixels * change.flatten(1).norm(dim=1).sum()
            optimizer.zero_grad()
            (change.grad,) = torch.autograd.grad(loss, [change])
            optimizer.step()
            with torch.no_grad():
                change.clamp_(-self.radius, self.radius)
        return torch.round((x + change.detach()).clamp(0, 1) * 255) / 255


def carriers(secret: str, classes: int, units: int) -> Array:
    """Returns the carrier of each class, ``(classes, units)`` float32: random unit vectors."""
    u = _rng(secret, "carriers").standard_normal((classes, units))
    made: Array = (u / np.linalg.norm(u, axis=1, keepdims=True)).astype(np.float32)
    return made


def inverse(marker: Network, clean: Array) -> Array:
    """Returns the pseudo-inverse of the marker's features of clean rows, ``(units, n)``, which aligns features."""
    return np.linalg.pinv(penultimate(marker).logits(clean).astype(np.float64))


def cosines(tested: Network, marker: Network, clean: Array, secret: str, inverted: Array | None = None) -> Array:
    """Returns the cosine of each class's carrier with the weights of a classifier, ``(classes,)``.

    The classifier's features are first aligned with the marker's by least squares over clean rows.

    Args:
        tested: The network to test, whose weights the judge has.
        marker: The marker.
        clean: Rows without marks, ``(n, *shape)``; more than features.
        secret: The secret of the carriers.
        inverted: What :func:`inverse` returns, if it is known already.
    """
    inverted = inverse(marker, clean) if inverted is None else inverted
    aligned = inverted @ penultimate(tested).logits(clean)  # phi M = phi'
    last = [layer for layer in tested.module.modules() if isinstance(layer, torch.nn.Linear)][-1]
    w = last.weight.detach().cpu().numpy().astype(np.float64) @ aligned.T
    u = carriers(secret, len(w), len(aligned))
    return np.asarray((w * u).sum(axis=1) / np.maximum(np.linalg.norm(w, axis=1), 1e-12))


def p_of_cosines(cosine: Array, units: int) -> float:
    """Returns the p-value of cosines with random directions, those of all classes combined by Fisher's method."""
    half = 0.5 * special.betainc((units - 1) / 2, 0.5, 1 - np.square(cosine))  # P(a random cosine is at least |c|)
    p = np.where(cosine >= 0, half, 1 - half)
    return float(stats.combine_pvalues(np.maximum(p, 1e-300)).pvalue)


def _rng(secret: str, use: str) -> np.random.Generator:
    return np.random.default_rng([int(secret, 16), *use.encode()])
