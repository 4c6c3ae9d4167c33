"""Shuffles the probabilities of out-of-distribution rows.

Source: Atli et al., "Extraction of Complex DNN Models: Real Threat or Boogeyman?", EDSMLS at AAAI 2020. A binary
classifier, trained on the victim's rows against others, recognises these rows; see
:mod:`defenses.detectors.ood`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from defenses.answers.renormalised import needs_probabilities, probs_of
from defenses.answers.row_noise import row_noise
from defenses.defense import Handler, Layer, Stage
from defenses.detectors.ood import load_filter
from defenses.site import Site
from wire import Answer, Array, Card, Query


@dataclass(frozen=True)
class OodFilter:
    """Shuffles the probabilities of out-of-distribution rows, always the same way for the same row.

    The label is the class with the largest probability. A watermark's mark is lost if its row is shuffled.

    Attributes:
        folder: Folder of the binary classifier, relative to the server's TOML file, or to the working directory.
    """

    folder: Path

    stage: ClassVar[Stage] = Stage.NOISE

    def bind(self, site: Site) -> Layer:
        """Returns the layer that runs the classifier beside the site's model."""
        return _Filtering(self.folder, site)

    def disclose(self, card: Card) -> Card:
        """Returns the card; the layer must stand inside top-k, rounding and label-only."""
        return needs_probabilities("ood_filter", card)


class _Filtering:
    def __init__(self, folder: Path, site: Site) -> None:
        self._folder, self._site = folder, site
        self._others: Callable[[Array], Awaitable[Array]] | None = None

    async def start(self) -> None:
        """Loads and tries the classifier; raises :class:`~wire.BadInput` if it is invalid or takes other rows."""
        self._others = await load_filter(self._site.companions, self._folder, self._site.card)

    async def __call__(self, query: Query, handle: Handler) -> Answer:
        """Answers, with shuffled probabilities for out-of-distribution rows."""
        if self._others is None:
            await self.start()
        assert self._others is not None
        answer = await handle(query)
        rows = np.flatnonzero(await self._others(query.x))
        if not len(rows):
            return answer
        probs, labels = probs_of(answer).copy(), answer.labels.copy()
        order = row_noise(self._site.secret, query.x[rows], probs.shape[1], self._site.grid).argsort(axis=1)
        probs[rows] = np.take_along_axis(probs[rows], order, axis=1)
        labels[rows] = probs[rows].argmax(axis=1)
        return Answer(labels, probs)
