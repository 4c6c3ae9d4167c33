"""What the layers that change probabilities share.

They need the full, exact probabilities, so they stand inside top-k, rounding and label-only. The label is always
the first class of the greatest probability.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from wire import Answer, Array, BadInput, Card, Labels


def probs_of(answer: Answer) -> Array:
    """Returns the probabilities of an answer, ``(n, k)``.

    Raises:
        ValueError: It has labels only, a stack that ``disclose`` refuses.
    """
    if answer.probs is None:
        raise ValueError("the layers inside disclose labels only")
    return answer.probs


def renormalised(values: Array) -> Answer:
    """Makes an answer of perturbed probabilities ``(n, k)`` float64: clips at zero and normalises, in place."""
    labels = values.argmax(axis=1)
    np.maximum(values, 0, out=values)
    total = np.add.reduce(values, axis=1, keepdims=True)
    if not total.all():  # nothing is left of a row but its label
        lost = np.flatnonzero(total == 0)
        values[lost, labels[lost]] = total[lost] = 1
    values /= total
    return Answer(labels, values.astype(np.float32))


def needs_probabilities(name: str, card: Card) -> Card:
    """Returns the card as it is seen through a layer that changes probabilities.

    Raises:
        BadInput: The layers inside withhold or round them.
    """
    if not card.tells_probs:
        raise BadInput(f"{name}: the layers inside disclose labels only, and it changes probabilities")
    if card.top_k is not None:
        raise BadInput(f"{name}: needs all probabilities, so it must stand inside top_k")
    if card.digits is not None:
        raise BadInput(f"{name}: would undo the rounding inside it; rounding must stand outside")
    return replace(card, temperature=None)


def relabelled(answer: Answer, rows: Labels, told: Labels) -> Answer:
    """Returns a copy of an answer in which the rows ``rows``, ``(m,)``, have the labels ``told``, ``(m,)``.

    The probabilities of the two labels are exchanged; where they are equal, the new label's becomes the greater.
    """
    probs, labels = probs_of(answer).copy(), answer.labels.copy()
    before = labels[rows]
    probs[rows, before], probs[rows, told] = probs[rows, told], probs[rows, before]
    labels[rows] = told
    others = probs[rows]
    others[np.arange(len(rows)), told] = 0
    tied = np.flatnonzero(others.max(axis=1) >= probs[rows, told])
    probs[rows[tied], told[tied]] = np.nextafter(probs[rows[tied], told[tied]], np.float32(2))
    return Answer(labels, probs)
