"""Adaptive misinformation: wrong answers about rows of which the victim is unsure.

Source: Kariyappa, Qureshi, "Defending Against Model Stealing Attacks with Adaptive Misinformation", CVPR 2020,
section 4. The model that misinforms is trained by :func:`defenses.training.misinforming.misinforming`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from scipy.special import expit

from defenses.answers.renormalised import needs_probabilities, probs_of, renormalised
from defenses.companions import Forward
from defenses.defense import Handler, Layer, Stage
from defenses.site import Site
from wire import Answer, Array, BadInput, Card, Query


@dataclass(frozen=True)
class Misinformation:
    """Mixes in a second model that avoids the true class, the more, the less sure the victim is of a row.

    The answer is ``(1 - a) f(x) + a g(x)`` with ``a = sigmoid(nu (tau - max f(x)))``, for the victim f and a model
    g that misinforms. A thief's rows are seldom of the victim's distribution, so the victim is less sure of them.
    The label is the class with the largest probability of the mixture. The paper also trains the victim on
    outliers, to make it unsure of them; here, the victim is taken as it is.

    Attributes:
        folder: Folder of the model that misinforms, relative to the server's TOML file or the working directory.
        tau: Largest probability below which the answer becomes misinformation.
        nu: Steepness of the change there.
    """

    folder: Path
    tau: float
    nu: float = 1000.0

    stage: ClassVar[Stage] = Stage.NOISE

    def __post_init__(self) -> None:
        if not (0 < self.tau < 1 and 0 < self.nu < np.inf):
            raise BadInput(
                f"misinformation: tau must lie between 0 and 1, and nu be positive, not {self.tau} and {self.nu}"
            )

    def bind(self, site: Site) -> Layer:
        """Returns the layer that runs the second model beside the site's."""
        return _Misinforming(self, site)

    def mixed(self, probs: Array, wrong: Array) -> Answer:
        """Returns the answer, from the victim's probabilities and the second model's, ``(n, k)`` each."""
        share = expit(self.nu * (self.tau - probs.max(axis=1, keepdims=True).astype(np.float64)))
        return renormalised((1 - share) * probs + share * wrong)

    def disclose(self, card: Card) -> Card:
        """Returns the card; the layer must stand inside top-k, rounding and label-only."""
        return needs_probabilities("misinformation", card)


class _Misinforming:
    def __init__(self, settings: Misinformation, site: Site) -> None:
        self._settings, self._site = settings, site
        self._wrong: Forward | None = None

    async def start(self) -> None:
        """Loads and tries the second model; raises :class:`~wire.BadInput` if it does not fit."""
        self._wrong = await loaded("misinformation", self._site, self._settings.folder)

    async def __call__(self, query: Query, handle: Handler) -> Answer:
        """Answers with the mixture."""
        if self._wrong is None:
            await self.start()
        assert self._wrong is not None
        answer = await handle(query)
        return self._settings.mixed(probs_of(answer), await self._wrong(query.x))


async def loaded(name: str, site: Site, folder: Path) -> Forward:
    """Returns a companion with the victim's classes, as ``(n, k)`` probabilities.

    Args:
        name: Name of the layer, for messages.
        site: The site.
        folder: The companion's folder.

    Raises:
        BadInput: The folder is invalid, or the model takes other rows or has another number of classes.
    """
    passes = await site.companions.load(folder)
    tried = await passes(np.zeros((1, *site.card.input_shape), np.float32))
    if tried.shape[1:] != (site.card.classes,):
        raise BadInput(f"{name}: {folder} has {tried.shape[1]} classes, but {site.model} has {site.card.classes}")
    return passes
