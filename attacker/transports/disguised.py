"""An oracle that asks about each row several times, and sends dummy rows along.

Source: Juuti, Szyller, Marchal, Asokan, "PRADA: Protecting against DNN Model Stealing Attacks", EuroS&P 2019,
section VI (dummy queries).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from attacker.transports.split import unreached
from wire import Answer, Array, Oracle, WireError
from wire.fits import bounds, ranges

Dummies = Callable[[int], Array]
"""Draws a number of dummy rows, ``(n, *input_shape)``."""


class Disguised(Oracle):
    """Asks about each row several times, and sends dummy rows with the rows of the attack.

    The attack gets the mean of the probabilities about a row, and the label that it makes most probable, or where
    only labels are told, the most frequent one. The first copy is the row itself. The others are moved by uniform
    noise, because a server may give equal rows equal answers; that way its noise is averaged all the same.

    Attributes:
        oracle: The oracle that is asked, which bills what was really sent.
    """

    def __init__(
        self,
        oracle: Oracle,
        *,
        repeats: int,
        nudge: float,
        dummies: float,
        draw: Dummies,
        rng: np.random.Generator,
    ) -> None:
        """Wraps an oracle.

        Args:
            oracle: The oracle.
            repeats: Times that each row is asked about.
            nudge: Largest change of a feature in further copies, as a share of its range.
            dummies: Share of dummies among all rows that are sent, less than 1.
            draw: Draws dummies.
            rng: Draws the changes of copies, and the places of dummies.
        """
        super().__init__(unreached, oracle.card, oracle._budget)
        self.oracle = oracle
        self._repeats, self._nudge, self._draw, self._rng = repeats, nudge, draw, rng
        self._ratio = dummies / (1 - dummies)
        self._real = 0  # rows sent that are no dummies

    @property
    def spent(self) -> int:
        """Rows answered so far, copies and dummies included."""
        return self.oracle.spent

    @property
    def requests(self) -> int:
        """Requests answered so far."""
        return self.oracle.requests

    @property
    def money(self) -> int | None:
        """Micro-cents spent so far; None if the prices are unknown."""
        return self.oracle.money

    @property
    def left(self) -> int | None:
        """Rows of the attack that the budget still covers, with their copies and dummies."""
        left = self.oracle.left
        if left is None:
            return None
        rows = int(left / (self._repeats * (1 + self._ratio))) + 1
        while rows and self._cost(rows) > left:
            rows -= 1
        return rows

    def halt(self, why: str = "interrupted") -> None:
        """Ends the budget."""
        super().halt(why)
        self.oracle.halt(why)

    def _cost(self, rows: int) -> int:
        """Returns how many rows are sent for the next ``rows`` of the attack."""
        real = rows * self._repeats
        return real + self._dummies(real)

    def _dummies(self, real: int) -> int:
        """Returns how many dummies go with the next real rows, so that all together have their share."""
        due, sent = (math.floor(n * self._ratio + 1e-9) for n in (self._real + real, self._real))
        return due - sent

    def _ask(self, x: Array) -> tuple[Answer, WireError | None]:
        parts = list[Answer]()
        size = max(1, int(self.card.max_rows / (self._repeats * (1 + self._ratio))))
        for start in range(0, len(x), size):
            block = x[start : start + size]
            real = np.concatenate([block, *(self._nudged(block) for _ in range(self._repeats - 1))])
            fillers = self._dummies(len(real))
            places = np.sort(self._rng.permutation(len(real) + fillers)[: len(real)])
            sent = np.empty((len(real) + fillers, *x.shape[1:]), x.dtype)
            others = np.delete(np.arange(len(sent)), places)
            sent[places] = real
            if fillers:
                sent[others] = self._draw(fillers)
            answer = self.oracle.collect(sent)
            heard = int((places < len(answer)).sum())
            self._real += heard
            answer = answer[places[:heard]]
            parts.append(averaged([answer[at : at + len(block)] for at in range(0, heard, len(block))]))
            if self.oracle.ended is not None:
                return Answer.join(parts), self.oracle.ended
        return Answer.join(parts), None

    def _nudged(self, x: Array) -> Array:
        """Returns rows that differ from ``x`` by noise, within their ranges; bytes by whole steps."""
        if not self._nudge:
            return x
        low, high = ranges(self.card)
        reach = self._nudge * (high - low)
        change = self._rng.uniform(-reach, reach, x.shape)
        if self.card.dtype == "UINT8":
            step = (high - low) / 255
            change = np.rint(change / step) * step
        for column, feature in enumerate(self.card.features):
            if feature.categories:
                change[:, column] = 0
        moved: Array = np.clip(x + change, *bounds(self.card)).astype(x.dtype)
        return moved


def averaged(copies: Sequence[Answer]) -> Answer:
    """Joins answers about copies of the same rows; the last copies may be those of the first rows only.

    Args:
        copies: An answer for each copy, the longest first.

    Returns:
        The mean of each probability over the copies that disclose it, with the class of the greatest mean as
        label. If all copies disclose labels only, the most frequent label, and of several the first received. Of
        embeddings, the mean.
    """
    if len(copies) < 2:
        return Answer.join(copies)
    if all(copy.embeddings is not None for copy in copies):
        return Answer.of_embeddings(_mean([copy.embeddings for copy in copies if copy.embeddings is not None]))
    rows, k = len(copies[0]), max(int(copy.labels.max(initial=0)) for copy in copies) + 1
    if all(copy.probs is None for copy in copies):
        votes = np.zeros((rows, k))
        for order, copy in enumerate(copies):
            votes[np.arange(len(copy)), copy.labels] += 1 - 1e-6 * order
        return Answer(votes.argmax(axis=1))
    mean = _mean([np.full((len(copy), 1), np.nan) if copy.probs is None else copy.probs for copy in copies])
    silent = np.isnan(mean).all(axis=1)
    return Answer(np.where(silent, copies[0].labels, np.nan_to_num(mean, nan=-1).argmax(axis=1)), mean)


def _mean(told: Sequence[Array]) -> Array:
    """Returns the mean of numbers over the copies that tell them, ``(n, k)`` float32, NaN where none does."""
    rows = len(told[0])
    total, count = np.zeros((rows, max(part.shape[1] for part in told))), np.zeros((rows, 1))
    for part in told:
        known = ~np.isnan(part)
        total[: len(part)] += np.where(known, part, 0)
        count = count + np.pad(known, ((0, rows - len(known)), (0, 0)))
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)
