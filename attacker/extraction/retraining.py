"""Retraining with uniform rows, and adaptive retraining.

Source: Tramèr, Zhang, Juels, Reiter, Ristenpart, "Stealing Machine Learning Models via Prediction APIs", USENIX
Security 2016, section 6 (extraction from class labels only), after Cohn, Atlas, Ladner, "Improving Generalization
with Active Learning", Machine Learning 1994.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from attacker.asking import some
from attacker.extraction.boundary import bisect, lines
from attacker.surrogate import family_named, new_seed, own_model
from wire import Array, BadInput, Card, Labels, Oracle
from wire.fits import uniform
from zoo.data.pool import Pool
from zoo.network import Network
from zoo.training import Training


@dataclass(frozen=True)
class Retraining:
    """Adaptive retraining: queries rows on the boundary of each round's surrogate (USENIX Security 2016).

    The first of ``rounds`` parts of the rows has features drawn uniformly from their range. In each further round,
    a surrogate is trained on all labels so far, and the next part lies on the surrogate's decision boundary, where
    it is least certain. With one round, this is the paper's retraining with uniform rows. Only labels are used.

    The paper does not say how rows on the boundary are found. Here, lines between random rows that the surrogate
    labels differently are bisected, which costs no query. While it labels all of them alike, rows are uniform.

    Attributes:
        queries: Number of rows of all rounds together.
        rounds: Number of rounds.
        tolerance: Share of a line's length at which its bisection ends.
        family: Family of the surrogate: softmax, logistic, mlp, cnn, resnet or torchvision.
        epochs: Passes over the answered rows in each round.
        batch: Rows per step.
        lr: Learning rate of Adam.
    """

    queries: int = 5000
    rounds: int = 5
    tolerance: float = 1e-3
    family: str = "cnn"
    epochs: int = 10
    batch: int = 64
    lr: float = 4e-3

    def __post_init__(self) -> None:
        if not 1 <= self.rounds <= self.queries or not 0 < self.tolerance < 1:
            raise BadInput(f"{self}: rounds must lie between 1 and queries, and tolerance between 0 and 1")

    def extract(self, oracle: Oracle, pool: Pool, rng: np.random.Generator) -> Network:
        """Repeats querying and training; see :class:`Extraction`.

        Raises:
            BadInput: The card has no finite bounds.
        """
        parts = [len(part) for part in np.array_split(np.empty(self.queries), self.rounds)]
        x = uniform(oracle.card, parts[0], rng)
        labels = some(oracle, x).labels
        x = x[: len(labels)]
        surrogate = self._trained(oracle.card, x, labels, rng)
        for part in parts[1:]:
            if oracle.ended is not None:
                break
            new = self._uncertain(surrogate, oracle.card, part, rng)
            answered = oracle.collect(new).labels
            x, labels = np.concatenate([x, new[: len(answered)]]), np.concatenate([labels, answered])
            surrogate = self._trained(oracle.card, x, labels, rng)
        return surrogate

    def _trained(self, card: Card, x: Array, labels: Labels, rng: np.random.Generator) -> Network:
        surrogate = own_model(card, family_named(self.family), seed=new_seed(rng))
        training = Training(self.epochs, self.batch, self.lr)
        return surrogate.fit(x, labels, training, seed=new_seed(rng), label=f"{len(x)} rows")

    def _uncertain(self, surrogate: Network, card: Card, n: int, rng: np.random.Generator) -> Array:
        """Returns ``n`` rows on the surrogate's decision boundary, or uniform ones if there is no boundary."""

        def label(rows: Array) -> Labels:
            found: Labels = surrogate.predict(rows).argmax(axis=1)
            return found

        ends = uniform(card, n, rng)
        labels = label(ends)
        if (labels == labels[0]).all():
            return ends
        one, other = lines(labels, n, rng)
        return bisect(label, ends[one], ends[other], labels[one], self.tolerance)
