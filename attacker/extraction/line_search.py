"""Line-search retraining.

Source: Tramèr, Zhang, Juels, Reiter, Ristenpart, "Stealing Machine Learning Models via Prediction APIs", USENIX
Security 2016, section 6 (extraction from class labels only).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from attacker.asking import some
from attacker.extraction.boundary import bisect, lines
from attacker.surrogate import family_named, new_seed, numbers, own_model
from wire import Answer, Array, BadInput, Oracle
from wire.fits import uniform
from zoo.data.pool import Pool
from zoo.network import Network
from zoo.training import Training


@dataclass(frozen=True)
class LineSearch:
    """Line search: queries random rows, then bisects lines between rows of two classes (USENIX Security 2016).

    First queries ``points`` rows with features drawn uniformly from their range. Then repeatedly draws two rows of
    different classes, and bisects the line between them, until the victim's boundary is located to within a
    ``tolerance`` of the line's length. The rows of many lines share a request. A surrogate is trained on all
    labels.

    A network may put all uniformly random rows into one class. Then some rows of the pool are queried as end
    points of lines. Lowd and Meek's attack, which the paper adapts, likewise starts from an instance of each
    class.

    Attributes:
        points: Number of uniformly random rows.
        instances: Number of rows of the pool to query if the random rows are all of one class.
        lines: Number of lines to bisect.
        at_once: Number of lines to bisect at the same time; 1 asks about one row a request.
        tolerance: Share of a line's length at which its bisection ends.
        family: Family of the surrogate: softmax, logistic, mlp, cnn, resnet or torchvision.
        epochs: Passes over the answered rows.
        batch: Rows per step.
        lr: Learning rate of Adam.
    """

    points: int = 5000
    instances: int = 10
    lines: int = 1000
    at_once: int = 1000
    tolerance: float = 1e-3
    family: str = "cnn"
    epochs: int = 10
    batch: int = 64
    lr: float = 1e-3

    def __post_init__(self) -> None:
        if min(self.points, self.at_once) < 1 or min(self.instances, self.lines) < 0:
            raise BadInput(f"{self}: points and at_once must be at least 1, instances and lines at least 0")
        if not 0 < self.tolerance < 1:
            raise BadInput(f"{self}: tolerance must lie between 0 and 1")

    def extract(self, oracle: Oracle, pool: Pool, rng: np.random.Generator) -> Network:
        """Queries random rows and lines between them, and trains the surrogate; see :class:`Extraction`."""
        instances = numbers(pool.x)
        surrogate = own_model(oracle.card, family_named(self.family), seed=new_seed(rng))
        training = Training(self.epochs, self.batch, self.lr, schedule="constant")
        seed = new_seed(rng)
        asked = _Asked(oracle)
        asked.take(uniform(oracle.card, self.points, rng))
        if len(set(asked.labels)) == 1 and oracle.ended is None:
            asked.take(instances[rng.permutation(len(pool))[: self.instances]])
        rows, ends = np.stack(asked.x), np.array(asked.labels)
        steps = math.ceil(-math.log2(self.tolerance))
        left = self.lines if len(set(asked.labels)) > 1 else 0
        while left and oracle.ended is None:
            whole = left if oracle.left is None else max(oracle.left // steps, 1)  # that the budget allows
            n = min(left, self.at_once, whole)
            one, other = lines(ends, n, rng)
            bisect(lambda x: asked.take(x).labels, rows[one], rows[other], ends[one], self.tolerance)
            left -= n
        return surrogate.fit(np.stack(asked.x), np.array(asked.labels), training, seed=seed, label="surrogate")


class _Asked:
    """The answered rows and their labels, in order."""

    def __init__(self, oracle: Oracle) -> None:
        self.x: list[Array] = []
        self.labels: list[int] = []
        self._oracle = oracle

    def take(self, x: Array) -> Answer:
        """Queries rows; at least one row of the first call must be answered."""
        answer = self._oracle.collect(x) if self.x else some(self._oracle, x)
        self.x += list(x[: len(answer)])
        self.labels += answer.labels.tolist()
        return answer
