"""The reaction ``coarsen``: less precise answers for an account that raised an alarm."""

from __future__ import annotations

import numpy as np

from wire import Answer


def coarsened(answer: Answer, digits: int | None) -> Answer:
    """Rounds the probabilities to ``digits`` decimals; None withholds them and leaves the labels."""
    if answer.probs is None:
        return answer
    return Answer(
        answer.labels, np.full_like(answer.probs, np.nan) if digits is None else answer.probs.round(digits)
    )
