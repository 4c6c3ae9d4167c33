"""Helpers for layers that change probabilities.

These layers need the full, unrounded probabilities, so they stand inside top-k, rounding and label-only. The label
is always the first class with the largest probability.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from wire import Answer, Array, BadInput, Card, Labels


def probs_of(answer: Answer) -> Array:
    """Returns the probabilities of an answer, ``(n, k)``.

    Raises:
        ValueError: The answer has labels only; ``disclose`` refuses such a stack.
    """
    if answer.probs is None:
        raise ValueError("the layers inside disclose labels only")
    return answer.probs


def renormalised(values: Array) -> Answer:
    """Clips perturbed probabilities, ``(n, k)`` float64, at zero and normalises them, in place."""
    labels = values.argmax(axis=1)
    np.maximum(values, 0, out=values)
    total = np.add.reduce(values, axis=1, keepdims=True)
    if not total.all():  # rows that are zero everywhere keep only their label
        lost = np.flatnonzero(total == 0)
        values[lost, labels[lost]] = total[lost] = 1
    values /= total
    return Answer(labels, values.astype(np.float32))


def needs_probabilities(name: str, card: Card) -> Card:
    """Returns the card as seen through a layer that changes probabilities.

    Raises:
        BadInput: The layers inside withhold or round probabilities.
    """
    if not card.tells_probs:
        raise BadInput(f"{name}: changes probabilities, but the layers inside disclose labels only")
    if card.top_k is not None:
        raise BadInput(f"{name}: needs all probabilities, so it must stand inside top_k")
    if card.digits is not None:
        raise BadInput(f"{name}: would undo the rounding inside it; rounding must stand outside")
    return replace(card, temperature=None, noise=None)


def relabelled(answer: Answer, rows: Labels, new: Labels) -> Answer:
    """Returns a copy of an answer in which the rows ``rows``, ``(m,)``, have the labels ``new``, ``(m,)``.

    Swaps the probabilities of the old and the new label; if they are equal, slightly increases the new label's.
    """
    probs, labels = probs_of(answer).copy(), answer.labels.copy()
    old = labels[rows]
    probs[rows, old], probs[rows, new] = probs[rows, new], probs[rows, old]
    labels[rows] = new
    others = probs[rows]
    others[np.arange(len(rows)), new] = 0
    tied = np.flatnonzero(others.max(axis=1) >= probs[rows, new])
    probs[rows[tied], new[tied]] = np.nextafter(probs[rows[tied], new[tied]], np.float32(2))
    return Answer(labels, probs)
