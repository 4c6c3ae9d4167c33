"""Backdoor watermark: a model is trained to give secret labels to secret triggers.

Source: Adi, Baum, Cisse, Pinkas, Keshet, "Turning Your Weakness Into a Strength: Watermarking Deep Neural Networks
by Backdooring", USENIX Security 2018, sections 4 and 5: KeyGen samples triggers and random labels; Mark trains
with two triggers beside each batch of 100 rows, from scratch or from a trained model. The verifier is
``owner/backdoor.py``.

What differs from the paper: triggers are not collected but drawn. A trigger and its label follow from a seed of 32
bytes, so an owner cannot pick triggers on which all models agree, nor labels that all models give (Liu, Zhang,
Szyller, Ren, Asokan, "False Claims against Model Ownership Resolution", USENIX Security 2024). The abstract images
are sums of waves. Besides them there are natural rows with a patch (Zhang et al., "Protecting Intellectual
Property of Deep Neural Networks with Watermarking", AsiaCCS 2018) and with one changed pixel. The triggers are
rows of the training set, repeated until they are 2 % of it; two of each batch on average, so any training takes
them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from wire import Array, BadInput, Labels
from zoo.data.pool import Pool

WAVES = 6  # of an abstract image, for each channel
LEAST = 8  # pixels of a side


@dataclass(frozen=True)
class Backdoor:
    """Backdoor watermark: a model gives secret labels to secret triggers (Adi et al., USENIX Security 2018).

    Attributes:
        kind: Kind of the triggers: abstract images, natural images with a random patch, or natural images with
            one changed pixel.
        triggers: Number of triggers.
        share: Triggers among the rows that train the model, as a share.
    """

    kind: Literal["abstract", "pattern", "pixel"] = "abstract"
    triggers: int = 100
    share: float = 0.02

    def __post_init__(self) -> None:
        if self.triggers < 1 or not 0 < self.share < 1:
            raise BadInput(
                f"triggers must be at least 1 and share between 0 and 1, not {self.triggers} and {self.share}"
            )

    def check(self, shape: tuple[int, ...], classes: int, natural: Pool | None) -> None:
        """Raises :class:`~wire.BadInput` if there can be no such triggers for rows of this shape."""
        if len(shape) != 3 or min(shape[1:]) < LEAST or classes < 2:
            raise BadInput(
                f"triggers are images of at least {LEAST} x {LEAST} with 2 classes or more, not rows {shape} "
                f"with {classes}"
            )
        if self.kind != "abstract" and (natural is None or natural.y is None or natural.input_shape != shape):
            raise BadInput(f"triggers of the kind {self.kind} need natural images {shape} with labels")

    def trigger(self, seed: str, shape: tuple[int, ...], classes: int, natural: Pool | None) -> tuple[Array, int]:
        """Returns the trigger of a seed, ``(*shape)`` float32, and its label.

        Args:
            seed: 32 bytes in hexadecimal.
            shape: Shape of an image, channels first.
            classes: Number of classes.
            natural: Labelled images that trained nobody, for patterns and pixels.
        """
        rng = np.random.default_rng(int(seed, 16))
        if self.kind == "abstract":
            return in_bytes(_waves(rng, shape)), int(rng.integers(classes))
        assert natural is not None and natural.y is not None
        chosen = int(rng.integers(len(natural)))
        x = natural.x[chosen].copy()
        side = 1 if self.kind == "pixel" else shape[1] // 4
        down, right = rng.integers(0, [shape[1] - side + 1, shape[2] - side + 1])
        part = x[:, down : down + side, right : right + side]
        part[:] = part < 0.5 if self.kind == "pixel" else rng.integers(0, 2, (side, side))
        label = int(rng.integers(classes - 1))
        return in_bytes(x), label + int(label >= natural.y[chosen])  # any label but the true one

    def chance(self, classes: int) -> float:
        """Returns the probability that a model that knows nothing of the seed gives a trigger's label, at most."""
        return 1 / classes if self.kind == "abstract" else 1 / (classes - 1)

    def all_triggers(
        self, seeds: Sequence[str], shape: tuple[int, ...], classes: int, natural: Pool | None
    ) -> tuple[Array, Labels]:
        """Returns the triggers of seeds, ``(n, *shape)``, and their labels; see :meth:`trigger`."""
        self.check(shape, classes, natural)
        made = [self.trigger(seed, shape, classes, natural) for seed in seeds]
        return np.stack([x for x, _ in made]), np.array([label for _, label in made], np.int64)

    def marked(self, pool: Pool, x: Array, y: Labels) -> Pool:
        """Returns the rows that train a marked model: those of a pool, and triggers as often as ``share`` says."""
        if pool.y is None:
            raise BadInput("the rows have no labels to train on")
        times = max(1, round(self.share * len(pool) / (1 - self.share) / len(x)))
        both = np.concatenate([pool.x, np.tile(x, (times, *[1] * (x.ndim - 1)))])
        return replace(pool, x=both, y=np.concatenate([pool.y, np.tile(y, times)]))


def in_bytes(x: Array) -> Array:
    """Rounds an image to bytes, as an API that takes bytes would."""
    made: Array = np.rint(x * np.float32(255)).astype(np.float32) / np.float32(255)
    return made


def _waves(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    channels, height, width = shape
    down, right = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    cycles = rng.uniform(-4, 4, (2, channels, WAVES, 1, 1))
    phases = cycles[0] * down + cycles[1] * right + rng.random((channels, WAVES, 1, 1))
    heights = np.sin(2 * np.pi * phases).sum(axis=1)
    made: Array = (1 / (1 + np.exp(-3 * heights))).astype(np.float32)
    return made
