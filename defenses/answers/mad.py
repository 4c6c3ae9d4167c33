"""Maximising angular deviation (MAD), or prediction poisoning.

Source: Orekondy, Schiele, Fritz, "Prediction Poisoning: Towards Defenses Against DNN Model Stealing Attacks", ICLR
2020, section 4. A thief's network learns an answer y along the gradient ``G^T y``, where row k of G is the
gradient of the log-likelihood of class k. As in the authors' code, G is that of the last layer of a surrogate of
the defender's, which may be untrained. There ``G^T y = (y - p) h^T`` with its answer p and its last hidden
layer h, so that the direction depends on ``y - p`` alone, and no backward pass is needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from defenses.answers.misinformation import loaded
from defenses.answers.renormalised import needs_probabilities, probs_of, renormalised
from defenses.companions import Forward
from defenses.defense import Handler, Layer, Stage
from defenses.site import Site
from wire import Answer, Array, BadInput, Card, Query


@dataclass(frozen=True)
class Mad:
    """Turns the gradient that a thief would learn from as far as a bound on the change of the answer allows.

    The objective, ``|| G^T y' / |G^T y'| - G^T y / |G^T y| ||^2``, is convex in the direction; the paper seeks its
    maximum among the corners of the simplex, and goes from y towards the best one until ``|y' - y|_1 = epsilon``.
    With ``keep_label``, the corners are those of the part of the simplex where the label stays: the label alone,
    or the label and another class, one half each.

    Attributes:
        folder: Folder of the defender's surrogate, relative to the server's TOML file or the working directory.
        epsilon: Largest change of an answer, as the sum of the absolute changes of all probabilities, at most 2.
        keep_label: Whether the label stays.
    """

    folder: Path
    epsilon: float
    keep_label: bool = False

    stage: ClassVar[Stage] = Stage.NOISE

    def __post_init__(self) -> None:
        if not 0 < self.epsilon <= 2:
            raise BadInput(f"mad: epsilon must be greater than 0 and at most 2, not {self.epsilon}")

    def bind(self, site: Site) -> Layer:
        """Returns the layer that runs the surrogate beside the site's model."""
        return _Poisoning(self, site)

    def poisoned(self, y: Array, p: Array) -> Array:
        """Returns the answers, ``(n, k)`` float64, from the victim's y and the surrogate's p, ``(n, k)`` each."""
        y, p = y.astype(np.float64), p.astype(np.float64)
        n, k = y.shape
        corners = np.eye(k)[None].repeat(n, axis=0)  # (n, corner, class)
        if self.keep_label:
            corners = (corners + np.eye(k)[y.argmax(axis=1)][:, None]) / 2
        change = corners - y[:, None]
        size = np.abs(change).sum(axis=2, keepdims=True)
        reached = y[:, None] + np.minimum(1, self.epsilon / np.maximum(size, 1e-12)) * change
        turned = ((_unit(reached - p[:, None]) - _unit(y - p)[:, None]) ** 2).sum(axis=2)
        best: Array = reached[np.arange(n), turned.argmax(axis=1)]
        return best

    def disclose(self, card: Card) -> Card:
        """Stands inside top-k, rounding and label-only."""
        return needs_probabilities("mad", card)


class _Poisoning:
    def __init__(self, settings: Mad, site: Site) -> None:
        self._settings, self._site = settings, site
        self._surrogate: Forward | None = None

    async def start(self) -> None:
        """Loads and tries the surrogate; raises :class:`~wire.BadInput` if it does not fit."""
        self._surrogate = await loaded("mad", self._site, self._settings.folder)

    async def __call__(self, query: Query, handle: Handler) -> Answer:
        """Answers with poisoned probabilities."""
        if self._surrogate is None:
            await self.start()
        assert self._surrogate is not None
        answer = await handle(query)
        told = renormalised(self._settings.poisoned(probs_of(answer), await self._surrogate(query.x)))
        return Answer(answer.labels, told.probs) if self._settings.keep_label else told


def _unit(direction: Array) -> Array:
    unit: Array = direction / np.maximum(np.linalg.norm(direction, axis=-1, keepdims=True), 1e-12)
    return unit
