"""Boxes of rows, and a decision tree that is split box by box."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from wire import Array, Card
from wire.fits import ranges
from zoo.families.trees import joined
from zoo.tensors import Tensors


@dataclass(frozen=True, eq=False)
class Box:
    """The rows whose features lie in given ranges.

    Attributes:
        low: Value that each number exceeds, ``(d,)``; minus infinity where there is none.
        high: Value that each number does not exceed, ``(d,)``; infinity where there is none.
        codes: The codes of each category that is restricted.
    """

    low: Array
    high: Array
    codes: Mapping[int, frozenset[int]] = field(default_factory=dict)

    @classmethod
    def whole(cls, features: int) -> Box:
        """Returns the box of all rows."""
        return cls(np.full(features, -np.inf), np.full(features, np.inf))

    @property
    def bounded(self) -> Array:
        """Which features are restricted, ``(d,)`` bool."""
        bounded: Array = np.isfinite(self.low) | np.isfinite(self.high)
        bounded[list(self.codes)] = True
        return bounded

    def holds(self, row: Array) -> bool:
        """Returns whether a row, ``(d,)``, lies in the box; a missing feature must not be restricted."""
        bounded = self.bounded
        inside = (self.low < row) & (row <= self.high)
        for column, codes in self.codes.items():
            inside[column] = row[column] in codes
        return bool(inside[bounded].all())

    def below(self, feature: int, threshold: float) -> Box:
        """Returns the part whose feature is at most the threshold."""
        high = self.high.copy()
        high[feature] = min(high[feature], threshold)
        return replace(self, high=high)

    def above(self, feature: int, threshold: float) -> Box:
        """Returns the part whose feature exceeds the threshold."""
        low = self.low.copy()
        low[feature] = max(low[feature], threshold)
        return replace(self, low=low)

    def among(self, feature: int, codes: frozenset[int]) -> Box:
        """Returns the part whose category has one of these codes."""
        return replace(self, codes={**self.codes, feature: self.codes.get(feature, codes) & codes})


class Domain:
    """The rows that a model takes: the range of each number, and the codes of each category.

    Attributes:
        features: Number of features d.
        codes: All codes of each category.
    """

    def __init__(self, card: Card) -> None:
        """Reads a card.

        Raises:
            BadInput: The range of a feature is not known.
        """
        self._low, self._high = (end.reshape(-1) for end in ranges(card))
        self.features = len(self._low)
        self.codes = {i: frozenset(range(len(f.categories))) for i, f in enumerate(card.features) if f.categories}

    @property
    def most_codes(self) -> int:
        """Number of codes of the largest category."""
        return max(map(len, self.codes.values()), default=1)

    def edges(self, box: Box) -> tuple[Array, Array]:
        """Returns the least and the greatest float32 of each number in a box, ``(d,)`` each."""
        low, high = box.low.astype(np.float32), box.high.astype(np.float32)
        low = np.where(low <= box.low, np.nextafter(low, np.float32(np.inf)), low)
        high = np.where(high > box.high, np.nextafter(high, np.float32(-np.inf)), high)
        return np.maximum(low, self._low.astype(np.float32)), np.minimum(high, self._high.astype(np.float32))

    def inside(self, box: Box) -> Array:
        """Returns a row in the middle of a box, ``(d,)``."""
        row = ((np.maximum(box.low, self._low) + np.minimum(box.high, self._high)) / 2).astype(np.float32)
        for feature, codes in self.codes.items():
            row[feature] = min(box.codes.get(feature, codes))
        return row


class GrowingTree:
    """A decision tree each of whose nodes is a leaf until it is split."""

    def __init__(self, classes: int, codes: int) -> None:
        """Makes a tree of one leaf.

        Args:
            classes: Number of classes k.
            codes: Number of codes of the largest category.
        """
        self._codes = codes
        self._chosen: list[Array] = []
        self._nodes: list[dict[str, float]] = []
        self._values: list[Array] = []
        self._leaves: list[int] = []
        self._add(np.full(classes, 1 / classes))

    def answer(self, node: int, probs: Array, leaf: int = -1) -> None:
        """Sets a leaf's probabilities, ``(k,)``, and the number of the victim's leaf, -1 if it is not told."""
        self._values[node], self._leaves[node] = probs, leaf

    @property
    def leaves(self) -> Array:
        """The number of the victim's leaf in which each node lies, ``(nodes,)``."""
        return np.array(self._leaves)

    def split(self, node: int, feature: int, threshold: float) -> tuple[int, int]:
        """Splits a leaf by a number; returns the leaf of rows up to the threshold, and that of the others."""
        return self._split(node, feature=feature, threshold=threshold)

    def split_codes(self, node: int, feature: int, codes: frozenset[int]) -> tuple[int, int]:
        """Splits a leaf by a category; returns the leaf of rows with one of the codes, and that of the others."""
        self._chosen.append(np.isin(np.arange(self._codes), list(codes)))
        return self._split(node, feature=feature, choice=len(self._chosen) - 1)

    def table(self, choices: int) -> tuple[dict[str, Array], list[Array]]:
        """Returns the columns of :func:`~zoo.families.trees.joined`, and which codes go left at each choice.

        Args:
            choices: Number of choices of the trees before this one.
        """
        columns = {name: np.array([node[name] for node in self._nodes]) for name in self._nodes[0]}
        columns = {name: column.astype(_TYPES.get(name, np.int64)) for name, column in columns.items()}
        columns["choice"] = np.where(columns["choice"] < 0, -1, columns["choice"] + choices)
        return {**columns, "value": np.stack(self._values)}, self._chosen

    def _split(self, node: int, **test: float) -> tuple[int, int]:
        left, right = (self._add(self._values[node], self._leaves[node]) for _ in range(2))
        self._nodes[node] |= {"leaf": 0, "left": left, "right": right, **test}
        return left, right

    def _add(self, value: Array, told: int = -1) -> int:
        leaf = {"leaf": 1, "feature": 0, "threshold": 0.0, "missing_left": 0, "left": 0, "right": 0, "choice": -1}
        self._nodes.append(leaf)
        self._values.append(value)
        self._leaves.append(told)
        return len(self._nodes) - 1


def joined_trees(trees: Sequence[GrowingTree]) -> Tensors:
    """Returns the table of :class:`~zoo.families.trees.Trees`, whose values are the answers of each tree."""
    tables, chosen = list[dict[str, Array]](), list[Array]()
    for tree in trees:
        columns, own = tree.table(len(chosen))
        tables.append(columns)
        chosen += own
    classes = tables[0]["value"].shape[1]
    return joined(tables, np.zeros(classes), np.stack(chosen) if chosen else np.zeros((0, 1), bool))


_TYPES = {"leaf": np.bool_, "missing_left": np.bool_, "threshold": np.float64}
