"""Rows for shadow models by those who have none: climbed to with the victim's help, or drawn from marginals.

Source: Shokri, Stronati, Song, Shmatikov, "Membership Inference Attacks Against Machine Learning Models", IEEE S&P
2017, section V-C (model-based synthesis is algorithm 1; statistics-based synthesis; noisy real data).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from attacker.asking import needs_probs, some
from attacker.extraction.targets import targets
from attacker.surrogate import class_names
from wire import Array, BadInput, Oracle
from wire.fits import bounds
from zoo.data.pool import Pool


@dataclass(frozen=True)
class Synthesis:
    """Model-based synthesis: climbs to rows that the victim is sure of (S&P 2017, algorithm 1).

    A climb changes k features of the best row so far, and goes on from the changed row if the victim finds the
    class no less probable. After ``rejections`` changes in a row that did not help, k halves. A row of the class
    is kept with the probability that the victim gives it. Climbs are independent: as many as ``abreast`` share a
    request.

    Attributes:
        rows: Rows to make, equally many of each class.
        k_max: Features that a change draws anew at first.
        k_min: The least number of these.
        confidence: Least probability of the class in a row that is kept.
        rejections: Changes that do not help, after which k halves.
        steps: Rows that a climb asks about before it is given up.
        abreast: Climbs at a time.
        binary: Whether features are 0 or 1; if not, they are uniform over their range.
    """

    rows: int = 1000
    k_max: int = 128
    k_min: int = 4
    confidence: float = 0.2
    rejections: int = 5
    steps: int = 1000
    abreast: int = 256
    binary: bool = True

    def __post_init__(self) -> None:
        if min(self.rows, self.k_min, self.rejections, self.steps, self.abreast) < 1 or self.k_max < self.k_min:
            raise BadInput(f"{self}: all numbers must be at least 1, and k_max at least k_min")
        if not 0 <= self.confidence < 1:
            raise BadInput(f"{self}: confidence must be at least 0 and less than 1")

    def synthesise(self, oracle: Oracle, rng: np.random.Generator) -> Pool:
        """Returns labelled rows, fewer than asked for where the budget ends or a class is not found.

        Args:
            oracle: The victim's oracle; every row of every climb is billed.
            rng: Source of all randomness.

        Raises:
            NotApplicable: The model discloses labels only.
            BadInput: The range of a feature is not known, and features are not binary.
            NothingAnswered: Not a single row was answered.
        """
        needs_probs(oracle.card)
        names = class_names(oracle.card)
        waiting = [label for label in range(len(names)) for _ in range(-(-self.rows // len(names)))][::-1]
        waiting = list(rng.permutation(waiting)[: self.rows])
        found: list[tuple[Array, int]] = []
        climbs = _Climbs.none(oracle.card.input_shape)
        with tqdm(total=self.rows, desc="synthesis", unit="row", leave=False, dynamic_ncols=True) as bar:
            while waiting or len(climbs.label):
                begun = [waiting.pop() for _ in range(min(len(waiting), self.abreast - len(climbs.label)))]
                climbs = climbs.joined(self._random(oracle, len(begun), rng), begun, self.k_max)
                probs = self._asked(oracle, climbs.x)
                climbs = climbs.take(slice(len(probs)))
                done = self._climbed(climbs, probs, rng)
                found += [(climbs.x[i].copy(), int(climbs.label[i])) for i in np.flatnonzero(done)]
                bar.update(int(done.sum()))
                if oracle.ended is not None:
                    break
                climbs = climbs.take(~done & (climbs.step < self.steps))
                climbs.x = self._changed(oracle, climbs, rng)
        x = np.stack([row for row, _ in found]) if found else np.empty((0, *oracle.card.input_shape), np.float32)
        return Pool(x.astype(np.float32), np.array([label for _, label in found], np.int64), names)

    def _asked(self, oracle: Oracle, x: Array) -> Array:
        """Returns the victim's probabilities of the rows that it answered, ``(m, k)``."""
        answer = some(oracle, x) if not oracle.spent else oracle.collect(x)
        return targets(answer, len(class_names(oracle.card))) if len(answer) else np.empty((0, 1), np.float32)

    def _climbed(self, climbs: _Climbs, probs: Array, rng: np.random.Generator) -> Array:
        """Accepts or rejects each climb's row, in place; returns which climbs have found a row, ``(m,)`` bool."""
        of_class = probs[np.arange(len(probs)), climbs.label[: len(probs)]]
        up = of_class >= climbs.best
        sure = up & (of_class > self.confidence) & (probs.argmax(axis=1) == climbs.label)
        done = sure & (rng.random(len(probs)) < of_class)
        climbs.kept[up], climbs.best[up], climbs.rejected[up] = climbs.x[up], of_class[up], 0
        climbs.rejected[~up] += 1
        tired = climbs.rejected > self.rejections
        climbs.k[tired] = np.maximum(self.k_min, -(-climbs.k[tired] // 2))
        climbs.rejected[tired] = 0
        climbs.step += 1
        return np.asarray(done)

    def _changed(self, oracle: Oracle, climbs: _Climbs, rng: np.random.Generator) -> Array:
        """Returns each climb's best row, with k features drawn anew."""
        rows = climbs.kept.reshape(len(climbs.label), math.prod(climbs.kept.shape[1:]))
        ranks = rng.random(rows.shape).argsort(axis=1).argsort(axis=1)
        fresh = self._random(oracle, len(rows), rng).reshape(rows.shape)
        return np.where(ranks < climbs.k[:, None], fresh, rows).reshape(climbs.kept.shape).astype(np.float32)

    def _random(self, oracle: Oracle, n: int, rng: np.random.Generator) -> Array:
        shape = (n, *oracle.card.input_shape)
        if self.binary:
            return rng.integers(2, size=shape).astype(np.float32)
        low, high = bounds(oracle.card)
        return rng.uniform(low, high, shape).astype(np.float32)


@dataclass
class _Climbs:
    """m climbs: their row to ask about and their best row, ``(m, *input_shape)``, and numbers, ``(m,)`` each."""

    x: Array
    kept: Array
    label: Array
    best: Array
    k: Array
    rejected: Array
    step: Array

    @classmethod
    def none(cls, shape: tuple[int, ...]) -> _Climbs:
        rows, numbers = np.empty((0, *shape), np.float32), np.empty(0, np.int64)
        return cls(rows, rows, numbers, np.empty(0), numbers, numbers, numbers)

    def take(self, chosen: Array | slice) -> _Climbs:
        """Returns some of the climbs."""
        return _Climbs(**{name: part[chosen] for name, part in vars(self).items()})

    def joined(self, x: Array, labels: list[int], k: int) -> _Climbs:
        """Returns the climbs, and new ones from these rows."""
        n = len(labels)
        zero = np.zeros(n, np.int64)
        new = _Climbs(x, x.copy(), np.array(labels, np.int64), np.zeros(n), zero + k, zero.copy(), zero.copy())
        return _Climbs(**{name: np.concatenate([part, vars(new)[name]]) for name, part in vars(self).items()})


def from_marginals(pool: Pool, rows: int, rng: np.random.Generator) -> Array:
    """Draws each feature by itself from its values in a pool; returns rows without labels, ``(rows, ...)``."""
    flat = pool.x.reshape(len(pool), -1)
    drawn = rng.integers(len(flat), size=(rows, flat.shape[1]))
    return np.take_along_axis(flat, drawn, axis=0).reshape(rows, *pool.input_shape)


def flipped(pool: Pool, share: float, rng: np.random.Generator) -> Pool:
    """Returns a pool of binary rows with a share of all features flipped, the same number in each row."""
    flat = pool.x.reshape(len(pool), -1)
    ranks = rng.random(flat.shape).argsort(axis=1).argsort(axis=1)
    x = np.where(ranks < round(share * flat.shape[1]), 1 - flat, flat)
    return Pool(x.reshape(pool.x.shape).astype(np.float32), pool.y, pool.class_names)
