"""Measures how many marks survive the noise layers outside a watermark."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from defenses.defense import Layer, compose
from wire import Answer, BadInput, Query

log = logging.getLogger(__name__)

_LOST = 0.1  # maximum share of marks that noise may destroy if the victim is certain
_ROWS = 2000  # number of simulated rows


async def lost(layers: Sequence[Layer], classes: int, confidence: float) -> float:
    """Returns the share of labels that the layers change, in a simulation.

    The label has the probability ``confidence``, and the runner-up the rest; classes are random, as a mark's are.
    """
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, _ROWS)
    rows = np.arange(_ROWS)
    probs = np.zeros((_ROWS, classes), np.float32)
    probs[rows, (labels + rng.integers(1, classes, _ROWS)) % classes] = 1 - confidence
    probs[rows, labels] = np.nextafter(np.float32(confidence), np.float32(1))

    async def marked(query: Query) -> Answer:
        return Answer(labels, probs)

    answer = await compose(layers, marked)(Query("", rows[:, None], 0.0))
    return float((answer.labels != labels).mean())


async def check_survival(model: str, layers: Sequence[Layer], classes: int) -> None:
    """Rejects noise that destroys too many marks, and warns if some are at risk.

    Args:
        model: Name of the model, for the log.
        layers: The layers of noise outside the watermark, outermost first.
        classes: Number of classes.

    Raises:
        BadInput: More than a tenth of the marks are lost even if the victim is certain.
    """
    certain, likely, even = [await lost(layers, classes, confidence) for confidence in (1.0, 0.6, 0.5)]
    if certain > _LOST:
        raise BadInput(
            f"dawn: the noise outside it changes {certain:.1%} of the marks, even if the victim is certain; "
            f"expected at most {_LOST:.0%}"
        )
    if even:
        log.warning(
            "model %s: the noise outside dawn changes %.1f %% of the marks if the victim gives its label 0.6 "
            "and the next one 0.4, and %.1f %% if it is certain",
            *(model, 100 * likely, 100 * certain),
        )
