"""Makes training targets from answers, whatever the victim withholds."""

from __future__ import annotations

import numpy as np

from wire import Answer, Array


def targets(answer: Answer, classes: int) -> Array:
    """Converts an answer into distributions over classes, to train a surrogate on.

    A full probability vector is unchanged. If probabilities are withheld (top-k), the remaining mass is spread
    evenly over the withheld classes. Rows that do not sum to one (rounding) are renormalised. A row with only a
    label becomes one-hot.

    Args:
        answer: The answer to ``n`` rows.
        classes: Number of classes k.

    Returns:
        One distribution for each row, ``(n, k)`` float32.
    """
    one_hot = np.eye(classes, dtype=np.float32)[answer.labels]
    if answer.probs is None:
        return one_hot
    withheld = np.isnan(answer.probs)
    disclosed = np.where(withheld, 0, np.maximum(answer.probs, 0))
    rest = np.maximum(1 - disclosed.sum(axis=1, keepdims=True), 0)
    filled = np.where(withheld, rest / np.maximum(withheld.sum(axis=1, keepdims=True), 1), disclosed)
    mass = np.where(withheld.all(axis=1, keepdims=True), 0, filled.sum(axis=1, keepdims=True))
    return np.where(mass > 0, filled / np.where(mass > 0, mass, 1), one_hot).astype(np.float32)
