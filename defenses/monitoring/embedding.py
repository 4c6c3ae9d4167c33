"""Random Fourier features of rows, centred on harmless rows, so that a sum over rows measures a discrepancy.

Source: Rahimi, Recht, "Random Features for Large-Scale Kernel Machines", NIPS 2007: inner products of these
features approximate a Gaussian kernel. Its bandwidth is the median distance between harmless rows (Gretton,
Borgwardt, Rasch, Schölkopf, Smola, "A Kernel Two-Sample Test", JMLR 2012, section 8).

A row is described by the victim's own features: the activations of its penultimate layer, each less its median and
through the logistic function, which takes one forward pass more; if it has no such layer, by the row's numbers in
standard deviations; a text, by its hashed words.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np

from defenses.companions import Companions
from wire import Array, BadInput, Card, Labels, Malformed
from wire.files import read_arrays
from wire.fits import as_bytes, label_misfit, misfit

SIZE = 256  # features of a row
_STEP = 2.0**-10  # to which features are rounded, so that sums do not depend on their order
_PAIRED = 500  # harmless rows whose distances are compared
_FEWEST = 20  # harmless rows of a class that has a mean of its own
_WORDS = 2**10  # buckets of hashed words

Describe = Callable[[Array], Awaitable[Array]]
"""Maps rows ``(n, ...)`` to what is known of them, ``(n, d)`` float."""


class Embedding:
    """The features of rows, less their mean over harmless rows, of the same class if classes are told apart."""

    def __init__(self, describe: Describe, known: Array, labels: Labels | None, classes: int) -> None:
        """Chooses the features.

        Args:
            describe: Describes rows.
            known: The descriptions of harmless rows, ``(m, d)``.
            labels: Their classes, ``(m,)``; None if classes are not told apart.
            classes: Number of classes.
        """
        self._describe = describe
        rng = np.random.default_rng(0)
        some = known[rng.permutation(len(known))[:_PAIRED]]
        squares = ((some[:, None] - some) ** 2).sum(axis=2)[np.triu_indices(len(some), 1)]
        bandwidth = float(np.sqrt(np.median(squares))) if len(squares) and np.median(squares) > 0 else 1.0
        self._directions = rng.normal(size=(known.shape[1], SIZE // 2)) / bandwidth
        features = self._fourier(known)
        self._means = np.tile(features.mean(axis=0), (classes, 1))
        for c in range(classes):
            if labels is not None and np.count_nonzero(of := labels == c) >= _FEWEST:
                self._means[c] = features[of].mean(axis=0)

    @staticmethod
    async def of(reference: Path, companions: Companions, card: Card, by_class: bool) -> Embedding:
        """Reads the harmless rows of a file (npz), and returns the embedding that they give.

        Raises:
            BadInput: The file is broken, its rows do not fit the victim, or they have no labels and need them.
        """
        x, labels = await asyncio.to_thread(_read, reference)
        try:
            x = as_bytes(x) if card.dtype == "UINT8" else x
        except Malformed as error:
            raise BadInput(f"{reference}: {error}") from None
        wrong = misfit(x, card) or (label_misfit(labels, card) if by_class else None)
        if wrong:
            raise BadInput(f"{reference}: {wrong}")
        describe = await _describer(x, companions, card)
        return Embedding(describe, await describe(x), labels if by_class else None, card.classes)

    async def features(self, x: Array, labels: Labels) -> Array:
        """Returns the features of rows ``(n, ...)`` that the victim gave these labels, ``(n, SIZE)`` float32."""
        centred = self._fourier(await self._describe(x)) - self._means[labels]
        rounded: Array = (np.rint(centred / _STEP) * _STEP).astype(np.float32)
        return rounded

    def _fourier(self, known: Array) -> Array:
        # One row at a time, so that the features of a row do not depend on the rows beside it.
        angles = np.einsum("nd,ds->ns", known, self._directions)
        waves: Array = np.concatenate([np.cos(angles), np.sin(angles)], axis=1) / np.sqrt(SIZE // 2)
        return waves


def _read(file: Path) -> tuple[Array, Labels | None]:
    """Reads rows, float32 or texts, and their labels, as :class:`~zoo.data.Pool` writes them."""
    arrays = read_arrays(file, "rows")
    labels = arrays.get("y")
    if "texts" in arrays:
        texts = json.loads(arrays["texts"].tobytes())
        x = np.empty(len(texts), object)
        x[:] = texts
        return x, labels
    if "x" not in arrays or arrays["x"].dtype not in (np.uint8, np.float32):
        raise BadInput(f'{file}: expected rows "x" of bytes or float32; it has {sorted(arrays)}')
    x = arrays["x"]
    return np.divide(x, np.float32(255), dtype=np.float32) if x.dtype == np.uint8 else x, labels


async def _describer(harmless: Array, companions: Companions, card: Card) -> Describe:
    """Returns what describes rows, given harmless ones."""
    try:
        activations = await companions.activations(harmless)
    except BadInput:  # trees, and whatever else has no such layer
        return _words() if card.dtype == "BYTES" else _standardised(harmless)
    above = await companions.activation_bits(np.median(activations, axis=0).astype(np.float32))

    async def describe(x: Array) -> Array:
        return (await above(x))[:, 1].astype(np.float64)  # the logistic function of activation less median

    return describe


def _standardised(harmless: Array) -> Describe:
    flat = harmless.reshape(len(harmless), -1).astype(np.float64)
    mean, deviation = np.nanmean(flat, axis=0), np.nanstd(flat, axis=0)
    deviation[deviation == 0] = 1

    async def describe(x: Array) -> Array:
        known: Array = np.nan_to_num((x.reshape(len(x), -1) - mean) / deviation)
        return known

    return describe


def _words() -> Describe:
    from sklearn.feature_extraction.text import HashingVectorizer

    hashing = HashingVectorizer(n_features=_WORDS)

    async def describe(x: Array) -> Array:
        words: Array = hashing.transform(x.tolist()).toarray()
        return words

    return describe
