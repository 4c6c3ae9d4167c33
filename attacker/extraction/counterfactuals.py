"""A counterfactual oracle made of predictions; see :mod:`attacker.extraction.tra`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from attacker.asking import some
from attacker.extraction.boxes import Box, Domain
from attacker.extraction.leaf_search import Stopped
from wire import Array, Labels, Oracle


class Counterfactual(NamedTuple):
    """A row with another answer than a region's middle.

    Attributes:
        row: The row, ``(d,)``.
        ends: For each number that differs from the middle's, a threshold of the model between the two.
        codes: For each category that differs, the row's code.
    """

    row: Array
    ends: dict[int, float]
    codes: dict[int, int]


class Counterfactuals(Domain):
    """Finds rows of another answer in regions, and moves them towards the middle, one feature at a time.

    The search is heuristic: a region in which no row with another answer is found may have one. What is found is
    locally optimal, in that no single feature can be moved closer to the middle's.

    Attributes:
        calls: Regions about which the oracle was asked.
    """

    calls = 0

    def __init__(
        self,
        oracle: Oracle,
        told: Literal["labels", "answers"],
        probes: int,
        tolerance: float,
        rng: np.random.Generator,
    ) -> None:
        """Takes the victim's oracle, and the search's settings; see :class:`~attacker.extraction.tra.Tra`."""
        super().__init__(oracle.card)
        self._oracle, self._told, self._probes, self._tolerance, self._rng = oracle, told, probes, tolerance, rng
        self._numbers: dict[bytes, int] = {}
        self._thresholds: list[list[float]] = [[] for _ in range(self.features)]
        self.values: dict[int, Array] = {}

    def ask(self, rows: Array) -> Labels:
        """Returns the number of the answer about each row, ``(n,)``.

        Raises:
            Stopped: Not all rows were answered.
            WireError: Not a single row was answered.
        """
        x = rows.reshape(-1, *self._oracle.card.input_shape)
        answer = self._oracle.collect(x) if self.values else some(self._oracle, x)
        if len(answer) < len(x):
            raise Stopped
        if self._told == "labels" or answer.probs is None:
            self.values.update({label: np.array([label]) for label in np.unique(answer.labels).tolist()})
            return answer.labels
        numbers = [self._numbers.setdefault(probs.tobytes(), len(self._numbers)) for probs in answer.probs]
        self.values.update(zip(numbers, answer.probs, strict=True))
        return np.array(numbers)

    def value(self, number: int, classes: int) -> Array:
        """Returns the probabilities of an answer, ``(k,)``; those of a label are 0 and 1."""
        value = self.values[number]
        return np.eye(classes)[value[0]] if len(value) == 1 else np.nan_to_num(value.astype(np.float64))

    def find(
        self, boxes: Sequence[Box], known: Sequence[tuple[Array, Labels]]
    ) -> tuple[Labels, list[Counterfactual | None], list[tuple[Array, Labels]]]:
        """Searches regions for a row with another answer than their middle's.

        Args:
            boxes: The regions.
            known: Rows that were answered in each, ``(n, d)``, and their answers, ``(n,)``.

        Returns:
            The answer of each middle; the counterfactuals, None where none was found; and what is known now.
        """
        self.calls += len(boxes)
        middles = np.stack([self._middle(box) for box in boxes])
        own = self.ask(middles)
        known = [*known]
        silent = [k for k, (_, ids) in enumerate(known) if not (ids != own[k]).any()]
        if silent:
            drawn = np.concatenate([self._draw(boxes[k]) for k in silent])
            told = self.ask(drawn)
            for place, k in enumerate(silent):
                part = slice(place * self._probes, (place + 1) * self._probes)
                rows, ids = known[k]
                known[k] = np.concatenate([rows, drawn[part]]), np.concatenate([ids, told[part]])
        found = [k for k, (_, ids) in enumerate(known) if (ids != own[k]).any()]
        result: list[Counterfactual | None] = [None] * len(boxes)
        if found:
            starts = np.stack([self._nearest(middles[k], own[k], *known[k]) for k in found])
            for k, near in zip(found, self._pulled(middles[found], own[found], starts), strict=True):
                result[k] = near
        return own, result, known

    def _middle(self, box: Box) -> Array:
        low, high = self.edges(box)
        return np.clip(self.inside(box), low, np.maximum(low, high))

    def _draw(self, box: Box) -> Array:
        """Draws rows of a box: corners, and rows of cells between the thresholds that were found so far.

        Every second corner tells a split by one feature, wherever it is. Cells are small where thresholds are
        many.
        """
        low, high = self.edges(box)
        high = np.maximum(low, high)
        rows = np.where(self._rng.random((self._probes, self.features)) < 0.5, low, high)
        cells = slice(0, self._probes // 2)
        for feature in range(self.features):
            known = [t for t in self._thresholds[feature] if low[feature] < t < high[feature]]
            ends = np.array([low[feature], *sorted(known), high[feature]])
            cell = self._rng.integers(len(ends) - 1, size=self._probes // 2)
            rows[cells, feature] = self._rng.uniform(ends[cell], ends[cell + 1])
        for feature, every in self.codes.items():
            rows[:, feature] = self._rng.choice([*box.codes.get(feature, every)], self._probes)
        drawn: Array = np.clip(rows.astype(np.float32), low, high)
        return drawn

    def _nearest(self, middle: Array, own: int, rows: Array, ids: Labels) -> Array:
        """Returns the row with another answer that differs from the middle the least, in ranges of features."""
        others = rows[ids != own]
        width = np.maximum(self._high - self._low, 1e-12)
        nearest: Array = others[(np.abs(others - middle) / width).sum(axis=1).argmin()]
        return nearest

    def _pulled(self, middles: Array, own: Labels, rows: Array) -> list[Counterfactual]:
        """Moves each row towards its middle, feature by feature, for as long as its answer stays another."""
        moved = True
        while moved:
            moved = False
            for feature in range(self.features):
                (tried,) = np.nonzero(rows[:, feature] != middles[:, feature])
                if len(tried):
                    trial = rows[tried]
                    trial[:, feature] = middles[tried, feature]
                    free = tried[self.ask(trial) != own[tried]]
                    rows[free, feature] = middles[free, feature]
                    moved = moved or len(free) > 0
        ends: list[dict[int, float]] = [{} for _ in rows]
        for feature in set(range(self.features)) - self.codes.keys():
            (changed,) = np.nonzero(rows[:, feature] != middles[:, feature])
            for k, threshold in self._bisect(feature, changed, middles, own, rows):
                ends[k][feature] = threshold
        codes = [
            {f: int(row[f]) for f in self.codes if row[f] != m[f]} for row, m in zip(rows, middles, strict=True)
        ]
        return [Counterfactual(*parts) for parts in zip(rows, ends, codes, strict=True)]

    def _bisect(
        self, feature: int, which: Labels, middles: Array, own: Labels, rows: Array
    ) -> list[tuple[int, float]]:
        """Moves a feature of these rows as close to the middle's as it goes; returns the threshold of each."""
        near, far = middles[which, feature], rows[which, feature]
        still = np.arange(len(which))
        while len(still):
            tried = [self._between(feature, *ends) for ends in zip(near[still], far[still], strict=True)]
            open_ = [place for place, value in enumerate(tried) if value is not None]
            still, values = still[open_], np.array([tried[place] for place in open_], np.float32)
            if not len(still):
                break
            trial = rows[which[still]]
            trial[:, feature] = values
            same = self.ask(trial) == own[which[still]]
            near[still[same]], far[still[~same]] = values[same], values[~same]
        rows[which, feature] = far
        return [(k, self._threshold(feature, *ends)) for k, *ends in zip(which.tolist(), near, far, strict=True)]

    def _between(self, feature: int, near: np.float32, far: np.float32) -> np.float32 | None:
        """Returns the value to try next: beside a known threshold, or the middle; None at the end."""
        low, high = min(near, far), max(near, far)
        known = [threshold for threshold in self._thresholds[feature] if low <= threshold < high]
        if known:
            below = np.float32(sorted(known)[len(known) // 2])
            below = below if below <= sorted(known)[len(known) // 2] else np.nextafter(below, np.float32(-np.inf))
            for value in (below, np.nextafter(below, np.float32(np.inf))):
                if low < value < high:
                    return value
        middle = np.float32((np.float64(low) + high) / 2)
        wide = np.float64(high) - low > (0 if known else self._tolerance)
        return middle if wide and low < middle < high else None

    def _threshold(self, feature: int, near: np.float32, far: np.float32) -> float:
        low, high = sorted((float(near), float(far)))
        known = [threshold for threshold in self._thresholds[feature] if low <= threshold < high]
        if known:
            return known[0]
        self._thresholds[feature].append((low + high) / 2)
        return (low + high) / 2
