"""Lowd and Meek's attack on linear models.

Sources: Lowd, Meek, "Adversarial Learning", KDD 2005, section 3 (continuous features); Tramèr, Zhang, Juels,
Reiter, Ristenpart, "Stealing Machine Learning Models via Prediction APIs", USENIX Security 2016, section 6.1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from attacker.asking import NotApplicable, some
from attacker.extraction.boundary import Line
from attacker.surrogate import class_names, new_seed, numbers, own_model
from wire import Array, BadInput, Labels, Oracle
from wire.fits import ranges, uniform
from zoo.data.pool import Pool
from zoo.families.logistic import Logistic
from zoo.network import Network


@dataclass(frozen=True)
class LowdMeek:
    """Lowd and Meek: reads the weights of a linear model of two classes off its boundary (KDD 2005).

    Finds an instance of each class, and bisects the line between them. Then each feature is changed alone, and the
    line is bisected again: how far the boundary has moved along it is the feature's weight, up to a factor that
    all weights share. Only labels are used. The surrogate has the victim's boundary, but not its confidence.

    The paper moves along one feature, whose change alone changes the label. Here, rows move along the line between
    the instances, to which all features contribute: along a feature of small weight, they would leave the range of
    that feature. The lines of all features are bisected together, a request a step.

    Attributes:
        points: Most uniformly random rows to query for an instance of each class; then rows of the pool are.
        change: Change of a feature, as a share of its range; it is halved where the boundary leaves the range.
        tolerance: Share of the line's length to which the boundary is located.
    """

    points: int = 1000
    change: float = 0.25
    tolerance: float = 1e-6

    def __post_init__(self) -> None:
        if self.points < 2 or not 0 < self.change <= 1 or not 0 < self.tolerance < 1:
            raise BadInput(f"{self}: points must be at least 2, change and tolerance greater than 0 and at most 1")

    def extract(self, oracle: Oracle, pool: Pool, rng: np.random.Generator) -> Network:
        """Queries rows on lines through the boundary, and computes the weights; see :class:`Extraction`.

        Where the budget ends, the boundary is taken as it is known by then; a feature whose line was not begun
        gets the weight 0.

        Raises:
            NotApplicable: The model has more than two classes, or all instances were of one class.
            BadInput: The range of a feature is not known.
        """
        if len(class_names(oracle.card)) != 2:
            raise NotApplicable(f"{len(class_names(oracle.card))} classes; Lowd and Meek's attack takes two")
        surrogate = own_model(oracle.card, Logistic(), seed=new_seed(rng))
        low, high = (end.reshape(-1) for end in ranges(oracle.card))
        line = Line(oracle, *self._instances(oracle, numbers(pool.x), rng), self.tolerance)
        origin = np.zeros((1, len(low)))
        start = line.crossings(origin)[0]
        middle = line.at(origin, np.array([start]))[0]
        away = np.where(high - middle > middle - low, 1.0, -1.0) * self.change * (high - low)
        weights, open_ = np.zeros(len(low)), np.flatnonzero(high > low)
        while len(open_) and oracle.ended is None and np.abs(away[open_]).max() > 0:
            moved = np.zeros((len(open_), len(low)))
            moved[np.arange(len(open_)), open_] = away[open_]
            shift = line.crossings(moved) - start
            found = np.isfinite(shift)
            weights[open_[found]] = -shift[found] / away[open_][found]
            open_, away = open_[~found], np.where(np.abs(away) < 1e-6 * (high - low), 0, away / 2)
        return _with_boundary(surrogate, weights, middle)

    def _instances(self, oracle: Oracle, pool: Array, rng: np.random.Generator) -> tuple[Array, Array]:
        """Returns a row of the first class and one of the second, ``(d,)`` float64 each."""
        x, labels, asked = np.empty((0, *oracle.card.input_shape), np.float32), np.empty(0, np.int64), 0
        batches = [uniform(oracle.card, n, rng) for n in _doubling(self.points)]
        order = rng.permutation(len(pool))
        batches += [pool[rows] for rows in np.split(order, np.cumsum(_doubling(len(pool)))[:-1]) if len(rows)]
        for batch in batches:
            found: Labels = (oracle.collect(batch) if asked else some(oracle, batch)).labels
            x, labels = np.concatenate([x, batch[: len(found)]]), np.concatenate([labels, found])
            asked += len(found)
            if len({*labels.tolist()}) == 2:
                flat = x.reshape(len(x), -1).astype(np.float64)
                return flat[np.argmax(labels == 0)], flat[np.argmax(labels == 1)]
            if oracle.ended is not None:
                break
        raise NotApplicable(f"all of {asked} rows are of one class")


def _doubling(n: int) -> list[int]:
    """Returns numbers of rows that double from 10 and add up to ``n``."""
    sizes = list[int]()
    while (left := n - sum(sizes)) > 0:
        sizes.append(min(left, 10 << len(sizes)))
    return sizes


def _with_boundary(network: Network, weights: Array, middle: Array) -> Network:
    """Gives a logistic regression the boundary through a point, ``(d,)``, with these weights."""
    linear = network.module[1]
    scaled = weights / max(float(np.abs(weights).max()), np.finfo(np.float64).tiny)
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(scaled[None]))
        linear.bias.copy_(torch.tensor([-float(scaled @ middle)]))
    return network
