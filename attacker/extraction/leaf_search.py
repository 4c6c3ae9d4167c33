"""Searches for the ends of a decision tree's leaves, many at once; see :mod:`attacker.extraction.path_finding`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from attacker.asking import some
from attacker.extraction.boxes import Box, Domain
from wire import Array, Oracle

Probe = tuple[int, int, float]
"""A row's index, a feature, and the value that it is set to."""


class Stopped(Exception):
    """The victim stopped answering, or the budget is spent."""


class LeafSearch(Domain):
    """Varies one feature of a row at a time; asks about no row twice.

    Attributes:
        tree: The tree whose leaves are searched, where answers tell the leaf of each tree.
    """

    tree: int = 0

    def __init__(self, oracle: Oracle, tolerance: float) -> None:
        """Makes a search.

        Args:
            oracle: The victim's oracle.
            tolerance: Distance to which the ends of a leaf are located.

        Raises:
            BadInput: The range of a feature is not known.
        """
        super().__init__(oracle.card)
        self._oracle, self._tolerance = oracle, tolerance
        self._told: dict[bytes, tuple[Array, Array | None]] = {}
        self._probs: dict[bytes, Array] = {}
        self._tested: dict[bytes, int] = {}
        self._thresholds: list[list[float]] = [[] for _ in range(self.features)]

    def ask(self, rows: Array) -> list[bytes]:
        """Returns the identities of the answers about rows, ``(n, d)`` float32.

        These are the leaves that the answers tell, or the probabilities.

        Raises:
            Stopped: Not all rows were answered.
            WireError: Not a single row was answered.
        """
        keys = [row.tobytes() for row in rows]
        new = {key: row for key, row in zip(keys, rows, strict=True) if key not in self._told}
        if new:
            x = np.stack([*new.values()]).reshape(-1, *self._oracle.card.input_shape)
            answer = self._oracle.collect(x) if self._told else some(self._oracle, x)
            leaves = [None] * len(answer) if answer.leaves is None else answer.leaves
            for key, *told in zip(new, () if answer.probs is None else answer.probs, leaves, strict=False):
                self._told[key] = told[0], told[1]
            if len(answer) < len(x):
                raise Stopped
        return [self._identity(*self._told[key]) for key in keys]

    def _identity(self, probs: Array, leaves: Array | None) -> bytes:
        withheld = leaves is None or leaves[self.tree] < 0
        identity = probs.tobytes() if withheld else b"%d/%d" % (self.tree, leaves[self.tree])  # type: ignore[index]
        self._probs.setdefault(identity, probs)
        return identity

    def leaf(self, answer: bytes) -> int:
        """Returns the number of the leaf that an answer tells, -1 if it tells none."""
        return int(answer.partition(b"/")[2]) if answer.startswith(b"%d/" % self.tree) else -1

    def answered(self) -> tuple[Array, Array]:
        """Returns the leaves, ``(n, trees)``, and probabilities, ``(n, k)``, of all answers that tell leaves."""
        told = [(leaves, probs) for probs, leaves in self._told.values() if leaves is not None]
        leaves, probs = (np.stack(parts) for parts in zip(*told, strict=True))
        return leaves, probs

    def probs(self, answer: bytes) -> Array:
        """Returns an answer's probabilities, ``(k,)`` float64 that sum to 1; withheld ones are 0."""
        probs = np.nan_to_num(self._probs[answer].astype(np.float64))
        share: Array = probs / probs.sum()
        return share

    def wide(self, box: Box) -> bool:
        """Returns whether a box is wider than the tolerance, so that its middle is a row inside."""
        low, high = np.maximum(box.low, self._low), np.minimum(box.high, self._high)
        bounded = box.bounded
        bounded[list(self.codes)] = False
        return bool((high - low > self._tolerance)[bounded].all()) and box.holds(self.inside(box))

    def descend(self, full: Array) -> tuple[Array, list[bytes], list[list[int]]]:
        """Walks from the root to leaves, by setting the one missing feature that changes the answer of a node.

        Args:
            full: Complete rows, ``(n, d)``, whose leaves are wanted.

        Returns:
            The rows with the features on their paths alone, ``(n, d)``; their answers; and their paths.
        """
        rows, paths = np.full_like(full, np.nan), [list[int]() for _ in full]
        answers, which = self.ask(rows), [*range(len(full))]
        while which:
            known = [(k, self._tested[answers[k]]) for k in which if answers[k] in self._tested]
            moved = self._set(rows, answers, full, [(k, i) for k, i in known if np.isnan(rows[k, i])])
            rest = [(k, i) for k in which if k not in moved for i in np.flatnonzero(np.isnan(rows[k])).tolist()]
            moved |= self._set(rows, answers, full, rest)
            for k, i in moved.items():
                paths[k].append(i)
            which = [*moved]
        return rows, answers, paths

    def _set(
        self, rows: Array, answers: list[bytes], full: Array, tries: Sequence[tuple[int, int]]
    ) -> dict[int, int]:
        """Sets the first feature that changes each row's answer, in place; returns it for each row with one."""
        moved = dict[int, int]()
        if not tries:
            return moved
        probes = np.stack([rows[k] for k, _ in tries])
        probes[np.arange(len(tries)), [i for _, i in tries]] = [full[k, i] for k, i in tries]
        for (k, i), answer in zip(tries, self.ask(probes), strict=True):
            if k not in moved and answer != answers[k]:
                self._tested[answers[k]] = moved[k] = i
                rows[k, i], answers[k] = full[k, i], answer
        return moved

    def leaves(self, rows: Array, answers: Sequence[bytes], which: Sequence[int]) -> list[Box]:
        """Returns the boxes of the leaves that rows reach; missing features are not restricted.

        Args:
            rows: Rows, ``(n, d)``.
            answers: Their answers.
            which: The rows whose leaves are wanted.
        """
        boxes = {k: Box.whole(self.features) for k in which}
        ends = [(float(low), float(high)) for low, high in zip(self._low, self._high, strict=True)]
        values = [sorted(self.codes.get(i, {*ends[i]})) for i in range(self.features)]
        given = [(k, i) for k in which for i in np.flatnonzero(~np.isnan(rows[k])).tolist()]
        probes = [(k, i, value) for k, i in given for value in values[i]]
        if not probes:
            return [*boxes.values()]
        same = self._same(rows, answers, probes)
        other = [p for p, alike in zip(probes, same, strict=True) if not alike and p[1] not in self.codes]
        for (k, i, _), threshold in zip(other, self._bisect(rows, answers, other), strict=True):
            above = threshold >= rows[k, i]
            boxes[k] = boxes[k].below(i, threshold) if above else boxes[k].above(i, threshold)
        alike = {probe for probe, is_same in zip(probes, same, strict=True) if is_same}
        for k, i in given:
            kept = frozenset(code for code in self.codes.get(i, ()) if (k, i, code) in alike)
            if i in self.codes and kept != self.codes[i]:
                boxes[k] = boxes[k].among(i, kept)
        return [*boxes.values()]

    def _same(self, rows: Array, answers: Sequence[bytes], probes: Sequence[Probe]) -> list[bool]:
        """Returns whether each row ``k`` has its answer with feature ``i`` set to a value."""
        changed = np.stack([rows[k] for k, _, _ in probes])
        changed[np.arange(len(probes)), [i for _, i, _ in probes]] = [value for _, _, value in probes]
        found = self.ask(changed)
        return [answer == answers[k] for (k, _, _), answer in zip(probes, found, strict=True)]

    def _bisect(self, rows: Array, answers: Sequence[bytes], ends: Sequence[Probe]) -> list[float]:
        """Locates, for each end with another answer, the threshold between it and the row."""
        near = np.array([rows[k, i] for k, i, _ in ends], np.float32)
        far = np.array([value for _, _, value in ends], np.float32)
        while True:
            middle = ((near.astype(np.float64) + far) / 2).astype(np.float32)
            apart = np.abs(far.astype(np.float64) - near) > self._tolerance
            (still,) = np.nonzero(apart & (middle != near) & (middle != far))
            if not len(still):
                break
            same = self._same(rows, answers, [(*ends[e][:2], float(middle[e])) for e in still.tolist()])
            near[still] = np.where(same, middle[still], near[still])
            far[still] = np.where(same, far[still], middle[still])
        return [self._threshold(i, *map(float, pair)) for (_, i, _), *pair in zip(ends, near, far, strict=True)]

    def _threshold(self, feature: int, near: float, far: float) -> float:
        """Returns a threshold between two values: one that was found before, or the middle."""
        low, high = min(near, far), max(near, far)
        known = self._thresholds[feature]
        found = next((threshold for threshold in known if low <= threshold < high), None)
        if found is None:
            found = (low + high) / 2
            known.append(found)
        return found
