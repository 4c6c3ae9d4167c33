"""Is a number greater than those of independent models? Student's t for one more draw from the same population.

It counts models, not rows: rows of one model share its luck. It holds if the suspect resembles the independent
models in all but what is claimed; a suspect of another family may lie beyond all of them for that alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

LEAST = 3  # independent models


class Beyond(NamedTuple):
    """How far a number lies beyond others.

    Attributes:
        z: Its distance from their mean, in deviations of one more draw.
        p: The one-sided p-value.
    """

    z: float
    p: float


def beyond(own: float, others: Sequence[float]) -> Beyond:
    """Compares a suspect's number with those of at least :data:`LEAST` independent models."""
    spread = max(float(np.std(others, ddof=1)), 1e-12) * np.sqrt(1 + 1 / len(others))
    z = float((own - np.mean(others)) / spread)
    return Beyond(z, float(stats.t.sf(z, len(others) - 1)))
