"""An oracle around a function, and the record of what it is asked."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from wire import Answer, Array, Card, Oracle

Predict = Callable[[Array], Array]


class Recorder:
    """A transport that keeps the rows it was asked about."""

    def __init__(self, predict: Predict, tells_probs: bool, top_k: int | None) -> None:
        self.predict, self.tells_probs, self.top_k = predict, tells_probs, top_k
        self.batches: list[Array] = []

    def __call__(self, x: Array) -> Answer:
        self.batches.append(x.copy())
        probs = self.predict(x)
        labels = probs.argmax(axis=1).astype(np.int64)
        if not self.tells_probs:
            return Answer(labels)
        if self.top_k is not None:
            rank = (-probs).argsort(axis=1).argsort(axis=1)
            probs = np.where(rank < self.top_k, probs, np.nan)
        return Answer(labels, probs.astype(np.float32))

    @property
    def rows(self) -> Array:
        return np.concatenate(self.batches)


def reach(
    predict: Predict,
    *,
    shape: tuple[int, ...] = (1, 8, 8),
    classes: int = 10,
    budget: int | None = None,
    tells_probs: bool = True,
    top_k: int | None = None,
    max_rows: int = 32,
    bounded: bool = True,
    on_answer: Callable[[Oracle], None] | None = None,
) -> tuple[Oracle, Recorder]:
    low, high = (0.0, 1.0) if bounded else (None, None)
    card = Card("m", shape, classes, max_rows=max_rows, tells_probs=tells_probs, low=low, high=high)
    recorder = Recorder(predict, tells_probs, top_k)
    return Oracle(recorder, card, budget, on_answer=on_answer), recorder
