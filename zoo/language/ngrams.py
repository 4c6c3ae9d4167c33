"""Interpolated n-gram models of tokens: the trivial baseline of a language model.

Source: Jelinek, Mercer, "Interpolated Estimation of Markov Source Parameters from Sparse Data", 1980: the shares
of the orders are fitted by expectation maximisation on texts that are held out. Here they do not depend on counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from wire import Array, BadInput
from zoo.language.tokens import END

Ids = Sequence[int]


class Ngrams:
    """Probabilities of a token given those before it, mixed over orders from 0 (uniform) to n.

    Attributes:
        shares: The share of each order, ``(n + 1,)``.
    """

    def __init__(self, texts: Sequence[Ids], n: int, vocabulary: int) -> None:
        """Fits counts and shares; every tenth text fits the shares alone, until all are counted at the end.

        Args:
            texts: The tokens of each text, without :data:`END` around them.
            n: The greatest order, at least 1; 1 mixes unigrams and the uniform distribution.
            vocabulary: Number of tokens v.

        Raises:
            BadInput: There are fewer than ten texts.
        """
        if len(texts) < 10:
            raise BadInput(f"{len(texts)} texts; n-grams need at least 10, of which every tenth fits their shares")
        self._n, self._v = n, vocabulary
        self.shares = np.full(n + 1, 1 / (n + 1))
        self._count([text for i, text in enumerate(texts) if i % 10])
        orders = np.concatenate([self._orders(text) for text in texts[::10]])
        for _ in range(50):
            parts = orders * self.shares
            parts /= parts.sum(axis=1, keepdims=True)
            self.shares = parts.mean(axis=0)
        self._count(texts)

    def _count(self, texts: Iterable[Ids]) -> None:
        self._after: list[Counter[tuple[int, ...]]] = [Counter() for _ in range(self._n)]
        self._with: list[Counter[tuple[int, ...]]] = [Counter() for _ in range(self._n)]
        for text in texts:
            ids = [END, *text, END]
            for at in range(1, len(ids)):
                for length in range(min(self._n, at + 1)):
                    before = tuple(ids[at - length : at])
                    self._after[length][before] += 1
                    self._with[length][(*before, ids[at])] += 1

    def _orders(self, text: Ids) -> Array:
        """Returns what each order says of each token of a text and of its end, ``(len + 1, n + 1)``."""
        ids = [END, *text, END]
        told = np.zeros((len(ids) - 1, self._n + 1))
        told[:, 0] = 1 / self._v
        for at in range(1, len(ids)):
            for length in range(self._n):
                before = tuple(ids[max(0, at - length) : at])  # near the beginning, as much as there is
                seen = self._after[len(before)][before]  # where it never was, the order below speaks for it
                share = self._with[len(before)][(*before, ids[at])] / seen if seen else told[at - 1, length]
                told[at - 1, length + 1] = share
        return told

    def log_likelihoods(self, text: Ids) -> Array:
        """Returns the log-probability of each token of a text and of its end, ``(len + 1,)``, in nats."""
        found: Array = np.log(self._orders(text) @ self.shares)
        return found
