"""Is a suspect nearer to the owner's key than to wrong keys that were drawn in the same way?

A mark follows from a secret. Whoever did not know it would have made the same model if another secret had been
drawn. So the owner's key and wrong keys, which follow from the same commitment by the same rule, are equally
likely to suit a suspect best: the rank of the owner's key is uniform, exactly, whatever the suspect is. Tests over
images have no such level: all images of a key share its luck, and some keys suit all models.

That luck is what the judge's independent models know about: how far a key suits them is taken off by least squares
over all keys alike, which keeps the rank exact. Where the rank of few keys cannot reach a low p-value, Student's t
can, but is approximate.

Source: this project; the rank is that of the twin test (``owner/twin_test.py``). Wrong keys are how Sablayrolles
et al., "Radioactive data: tracing through training", ICML 2020, judge weights: by random directions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from owner.twin_test import ranking
from wire import Array


class Standing(NamedTuple):
    """The place of the owner's key among wrong ones.

    Attributes:
        rank: Its place; 1 is the first.
        z: Its distance from the wrong keys' mean, in deviations of one more draw.
        p: The p-value: by Student's t if it comes first, else that of the rank.
    """

    rank: int
    z: float
    p: float


def standing(own: Array, others: Sequence[Array]) -> Standing:
    """Ranks the owner's key among wrong ones by how far each suits a suspect.

    Args:
        own: How far each key suits the suspect, ``(1 + wrong,)``; the owner's is the first.
        others: The same for each independent model.
    """
    left = residual(own, others)
    if np.ptp(left) < 1e-12:  # all keys suit alike, or there are no wrong ones
        return Standing(len(left), 0.0, 1.0)
    found = ranking(left, 0)
    return Standing(found.rank, found.z, found.p_t if found.rank == 1 else max(found.p_rank, found.p_t))


def residual(own: Array, others: Sequence[Array]) -> Array:
    """Returns what the mean of other models does not explain of numbers of k keys, ``(k,)`` each."""
    if not len(others):
        return own
    known = np.stack([np.ones(len(own)), np.mean(others, axis=0)], axis=1)
    fitted, *_ = np.linalg.lstsq(known, own, rcond=None)
    return np.asarray(own - known @ fitted)
