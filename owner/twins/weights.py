"""Learns from twins and simulated thefts which images betray their membership, and how to weigh them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from wire import Array, Labels

LEAST_VARIANCE = 0.3
CELLS, PRIOR = 16, 30  # quantiles of each measure of hardness; images by which a cell's mean is shrunk


class Hardness(NamedTuple):
    """How hard images are, ``(n,)`` each.

    Attributes:
        mo: The mean signal of models that were not trained on an image.
        dv: By how much training on it raises the signal.
    """

    mo: Array
    dv: Array

    def take(self, images: Labels) -> Hardness:
        """Returns the values of some images."""
        return Hardness(self.mo[images], self.dv[images])


class Weights(NamedTuple):
    """Statistics of images over thefts, ``(n,)`` each.

    Attributes:
        d: By how much a theft's signal of an image is greater if its victim was trained on the image.
        ex: The mean of the signal.
        var: The variance of the signal.
    """

    d: Array
    ex: Array
    var: Array

    def take(self, images: Labels) -> Weights:
        """Returns the values of some images."""
        return Weights(*(part[images] for part in self))


def hardness_of(signals: Array, bits: Array) -> Hardness:
    """Learns from twins how hard images are.

    Args:
        signals: The twins' signals, ``(M, n)``.
        bits: Whether each twin was trained on each image, ``(M, n)`` bool.
    """
    n1, n0 = bits.sum(axis=0), (~bits).sum(axis=0)
    mean = signals.mean(axis=0)
    m1 = np.where(n1, (signals * bits).sum(axis=0) / np.maximum(n1, 1), mean)
    raw = m1 - np.where(n0, (signals * ~bits).sum(axis=0) / np.maximum(n0, 1), m1)
    with_both = (n1 > 0) & (n0 > 0)
    trend = np.polynomial.Polynomial.fit(m1[with_both], raw[with_both], 3)
    dv = (n0 * raw + 4 * trend(m1)) / (n0 + 4)
    return Hardness(m1 - dv, dv)


def smoothing(hardness: Hardness, t: Array) -> Array:
    """Smooths values of images, ``(n,)``, over images that are about as hard.

    A quadratic regression on the hardness, plus the mean residuals in cells of quantiles, shrunk towards 0.
    """
    mo, dv = ((part - part.mean()) / (part.std() or 1) for part in hardness)
    terms = np.stack([np.ones_like(mo), mo, dv, mo * mo, mo * dv, dv * dv], axis=1)
    fitted = terms @ np.linalg.lstsq(terms, t, rcond=None)[0]
    places = [np.argsort(np.argsort(part, kind="stable"), kind="stable") * CELLS // len(part) for part in (mo, dv)]
    cell = CELLS * places[0] + places[1]
    n = np.bincount(cell, minlength=CELLS**2)
    return np.asarray(fitted + (np.bincount(cell, t - fitted, CELLS**2) / (n + PRIOR))[cell])


def learnt(hardness: Hardness, signals: Array, bits: Array, share: float) -> Weights:
    """Learns from simulated thefts what they keep of images.

    Args:
        hardness: How hard the n images are.
        signals: The thefts' signals, ``(S, n)``.
        bits: Whether each theft's victim was trained on each image, ``(S, n)`` bool.
        share: Share of the images that trains a victim.
    """
    mean = signals.mean(axis=0)
    ex = 0.5 * mean + 0.5 * smoothing(hardness, mean)
    var = np.maximum(LEAST_VARIANCE, smoothing(hardness, signals.var(axis=0, ddof=1)))
    gain = ((bits - share) / (share * (1 - share)) * (signals - ex)).mean(axis=0)
    return Weights(smoothing(hardness, gain), ex, var)


def most_telling(weights: Weights, count: int) -> Labels:
    """Returns the numbers of the images of greatest d / sqrt(var), best first."""
    return np.argsort(-weights.d / np.sqrt(weights.var), kind="stable")[:count]
