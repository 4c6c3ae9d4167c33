"""Line-search retraining.

Source: Tramèr, Zhang, Juels, Reiter, Ristenpart, "Stealing Machine Learning Models via Prediction APIs", USENIX
Security 2016, section 6: extraction given class labels only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from attacker.asking import some
from attacker.surrogate import family_named, new_seed, own_model
from wire import Answer, Array, BadInput, Card, Oracle
from wire.fits import bounds
from zoo.data.pool import Pool
from zoo.network import Network
from zoo.training import Training


@dataclass(frozen=True)
class LineSearch:
    """Random rows, then bisections towards the boundary between rows of two classes (USENIX Security 2016).

    First ``points`` rows are asked about whose features are drawn uniformly from their range. Then two rows of
    different classes are drawn again and again, and the line between them is bisected, one request for each row,
    until the victim's boundary is known to a ``tolerance`` of the line. A surrogate is trained on all labels.

    A network may put all uniformly random rows into one class. Then some rows of the pool are asked about too, for
    lines to end at: Lowd and Meek's attack, which the paper carries over, is likewise given an instance of each
    class.

    Attributes:
        points: Uniformly random rows.
        instances: Rows of the pool, where those are all of one class.
        lines: Lines that are bisected.
        tolerance: Share of a line's length at which its bisection ends.
        family: Family of the surrogate: softmax, logistic, mlp, cnn, resnet or torchvision.
        epochs: Passes over the answered rows.
        batch: Rows in one step.
        lr: Learning rate of Adam.
    """

    points: int = 5000
    instances: int = 10
    lines: int = 1000
    tolerance: float = 1e-3
    family: str = "cnn"
    epochs: int = 10
    batch: int = 64
    lr: float = 1e-3

    def __post_init__(self) -> None:
        if self.points < 1 or min(self.instances, self.lines) < 0 or not 0 < self.tolerance < 1:
            raise BadInput(
                f"{self}: points must be at least 1, instances and lines at least 0, and tolerance lie between 0 "
                "and 1"
            )

    def extract(self, oracle: Oracle, pool: Pool, rng: np.random.Generator) -> Network:
        """Asks about random rows and about lines between them, and trains; see :class:`Extraction`."""
        surrogate = own_model(oracle.card, family_named(self.family), seed=new_seed(rng))
        training = Training(self.epochs, self.batch, self.lr, schedule="constant")
        seed = new_seed(rng)
        asked = _Asked(oracle)
        asked.take(self._random(oracle.card, rng))
        if len(set(asked.labels)) == 1 and oracle.ended is None:
            asked.take(pool.x[rng.permutation(len(pool))[: self.instances]])
        ends = np.array(asked.labels)
        for _ in range(self.lines if len(set(asked.labels)) > 1 else 0):
            if oracle.ended is not None:
                break
            one = int(rng.integers(len(ends)))
            other = int(rng.choice(np.flatnonzero(ends != ends[one])))
            self._bisect(asked, asked.x[one], asked.x[other], asked.labels[one])
        return surrogate.fit(np.stack(asked.x), np.array(asked.labels), training, seed=seed, label="surrogate")

    def _random(self, card: Card, rng: np.random.Generator) -> Array:
        low, high = bounds(card)
        if not np.isfinite([low, high]).all():
            raise BadInput(f"{card.model} takes features from {low:g} to {high:g}: no uniform draw from there")
        return rng.uniform(low, high, (self.points, *card.input_shape)).astype(np.float32)

    def _bisect(self, asked: _Asked, a: Array, b: Array, label: int) -> None:
        """Halves the line from ``a``, of a label, to ``b``, of another, at its change of label."""
        length = 1.0
        while length > self.tolerance:
            middle = (a + b) / 2
            answer = asked.take(middle[None])
            if not len(answer):
                return
            if answer.labels[0] == label:
                a = middle
            else:
                b = middle
            length /= 2


class _Asked:
    """Rows that were answered, with their labels, in order."""

    def __init__(self, oracle: Oracle) -> None:
        self.x: list[Array] = []
        self.labels: list[int] = []
        self._oracle = oracle

    def take(self, x: Array) -> Answer:
        """Asks about rows; the first ones must be answered in part at least."""
        answer = self._oracle.collect(x) if self.x else some(self._oracle, x)
        self.x += list(x[: len(answer)])
        self.labels += answer.labels.tolist()
        return answer
