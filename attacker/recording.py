"""An endpoint that keeps what it was asked and what it answered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from wire import Answer, Array
from wire.http import Endpoint


class Recording(Endpoint):
    """Records the transfer set: every row that was answered, with its answer.

    Attributes:
        asked: Batches of rows, in the order in which they were answered.
        answers: The answers about them.
    """

    def __init__(self, url: str, **options: Any) -> None:
        """Takes what :class:`~wire.http.Endpoint` takes."""
        super().__init__(url, **options)
        self.asked: list[Array] = []
        self.answers: list[Answer] = []

    def __call__(self, x: Array) -> Answer:
        """Carries the rows ``x``, ``(n, *input_shape)``, there, brings the answer back and keeps both."""
        answer = super().__call__(x)
        self.asked.append(x)
        self.answers.append(answer)
        return answer

    def save(self, path: Path) -> None:
        """Writes the transfer set to a file (npz).

        It holds the rows ``x``, ``(n, *input_shape)`` float32, their ``labels``, ``(n,)`` int64, and ``probs``,
        ``(n, k)`` float32, NaN where they were withheld.
        """
        answer = Answer.join(self.answers)
        probs = answer.probs
        if probs is None:
            probs = np.full((len(answer), self.card.classes), np.nan, np.float32)
        x = np.concatenate(self.asked).astype(np.float32)
        with path.open("wb") as file:
            np.savez_compressed(file, x=x, labels=answer.labels, probs=probs)
