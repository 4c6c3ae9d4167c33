"""Decision trees and random forests, and the torch module of all tree models, boosted ones included."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import nn

from wire import Array, BadInput
from zoo.data.pool import Pool
from zoo.families.fitted import Fitted, flat
from zoo.tensors import Form, Tensors, check, check_range

_INT, _FLOAT = torch.int64, torch.float64
_FORMS: dict[str, Form] = {
    "root": (_INT, ("trees",)),
    "feature": (_INT, ("nodes",)),
    "threshold": (_FLOAT, ("nodes",)),
    "missing_left": (torch.bool, ("nodes",)),
    "left": (_INT, ("nodes",)),
    "right": (_INT, ("nodes",)),
    "choice": (_INT, ("nodes",)),
    "chosen": (torch.bool, ("choices", "codes")),
    "value": (_FLOAT, ("nodes", "k")),
    "base": (_FLOAT, ("k",)),
}


class Trees(nn.Module):
    """Trees in one table of nodes; a row's score is the sum of the values of the leaves that it reaches.

    A node precedes its children, and a leaf is its own child. A row goes left if its feature is at most the
    threshold. If a node's ``choice`` is not negative, it indexes the row of ``chosen`` that marks the category
    codes that go left instead. A missing feature goes left if ``missing_left`` is true, or ends at the node.
    """

    root: torch.Tensor
    feature: torch.Tensor
    threshold: torch.Tensor
    missing_left: torch.Tensor
    left: torch.Tensor
    right: torch.Tensor
    choice: torch.Tensor
    chosen: torch.Tensor
    value: torch.Tensor
    base: torch.Tensor

    def __init__(self, tensors: Tensors, *, features: int, classes: int, log: bool, stop: bool = False) -> None:
        """Makes a module from a table.

        Args:
            tensors: The table.
            features: Number of features of a row.
            classes: Number of classes k.
            log: Whether the values are probabilities, whose logarithms are the logits.
            stop: Whether a row ends at a node whose feature is missing, rather than at a leaf.

        Raises:
            ValueError: The tensors are not a valid table.
        """
        super().__init__()
        check(tensors, _FORMS, k=classes)
        nodes, own = len(tensors["feature"]), torch.arange(len(tensors["feature"]))
        if not nodes or not len(tensors["root"]):
            raise ValueError("there are no trees")
        check_range("root", tensors["root"], 0, nodes)
        if bool((tensors["root"].diff() <= 0).any()):
            raise ValueError("tensor root must increase: a tree's nodes follow those of the tree before it")
        check_range("feature", tensors["feature"], 0, features)
        for side in ("left", "right"):
            check_range(side, tensors[side], own + (tensors["left"] != own), nodes)  # a child comes after its node
        check_range("choice", tensors["choice"], -1, len(tensors["chosen"]))
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor)
        self.log, self.stop, self.depth = log, stop, _depth(tensors["left"].tolist(), tensors["right"].tolist())

    @property
    def trees(self) -> int:
        """Number of trees."""
        return len(self.root)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps rows, ``(n, ...)``, to logits, ``(n, k)``."""
        scores = self.value[self._reached(x)].sum(1) + self.base
        return scores.log() if self.log else scores

    def leaves(self, x: torch.Tensor) -> torch.Tensor:
        """Maps rows, ``(n, ...)``, to the node of each tree where they end, ``(n, trees)``, from 0 in its tree."""
        return self._reached(x) - self.root

    def _reached(self, x: torch.Tensor) -> torch.Tensor:
        x = x.flatten(1)
        at = self.root.expand(len(x), -1)  # (n, trees)
        for _ in range(self.depth):
            value = x.gather(1, self.feature[at])
            left = value.double() <= self.threshold[at]
            if len(self.chosen):
                code = value.nan_to_num().long().clamp(0, self.chosen.shape[1] - 1)
                choice = self.choice[at]
                left = torch.where(choice < 0, left, self.chosen[choice.clamp(0), code])
            left = torch.where(value.isnan(), self.missing_left[at], left)
            below = torch.where(left, self.left[at], self.right[at])
            at = torch.where(value.isnan(), at, below) if self.stop else below
        return at


def _depth(left: Sequence[int], right: Sequence[int]) -> int:
    depth = [0] * len(left)
    for node in reversed(range(len(left))):
        if left[node] != node:
            depth[node] = 1 + max(depth[left[node]], depth[right[node]])
    return max(depth)


def joined(trees: Sequence[dict[str, Array]], base: Array, chosen: Array) -> Tensors:
    """Concatenates the tables of several trees.

    Args:
        trees: The columns of each tree, with one entry per node; the children of a leaf are ignored.
        base: Added to the sum of the leaves' values, ``(k,)``.
        chosen: Which codes go left, ``(choices, codes)`` bool.
    """
    starts = np.cumsum([0, *(len(tree["feature"]) for tree in trees)])
    table = {name: np.concatenate([tree[name] for tree in trees]) for name in trees[0]}
    leaf, own = table.pop("leaf").astype(bool), np.arange(starts[-1])
    start = np.repeat(starts[:-1], np.diff(starts))
    for side in ("left", "right"):
        table[side] = np.where(leaf, own, start + table[side])
    table["feature"] = np.where(leaf, 0, table["feature"])
    table["threshold"] = np.nan_to_num(table["threshold"])  # infinite if only a missing feature goes right
    table |= {"root": starts[:-1], "base": base, "chosen": chosen}
    return {name: torch.from_numpy(np.ascontiguousarray(a)).to(_FORMS[name][0]) for name, a in table.items()}


def _cart(tree: Any, share: float, prior: float = 0) -> dict[str, Array]:
    """Reads one of scikit-learn's trees.

    Args:
        tree: The tree.
        share: Scales the probabilities of all nodes.
        prior: Added to a node's number of training rows of each class.
    """
    value = tree.value[:, 0]
    if prior:
        value = value / value.sum(1, keepdims=True) * tree.weighted_n_node_samples[:, None] + prior
    return {
        "leaf": tree.children_left < 0,
        "feature": tree.feature,
        "threshold": tree.threshold,
        "missing_left": tree.missing_go_to_left,
        "left": tree.children_left,
        "right": tree.children_right,
        "choice": np.full(len(value), -1),
        "value": share * value / value.sum(1, keepdims=True),
    }


class _Carts(Fitted):
    """Base class of families whose leaves hold class probabilities."""

    tabular: ClassVar[bool] = True

    def fit(self, pool: Pool, seed: int) -> Tensors:
        """Grows the trees."""
        x, y = flat(pool)
        trees = self._grown(x, y, seed)
        columns = [_cart(tree, 1 / len(trees), self._prior()) for tree in trees]
        return joined(columns, np.zeros(len(pool.class_names)), np.zeros((0, 1), dtype=bool))

    def _prior(self) -> float:
        """Returns what is added to the number of a class's rows in each node."""
        return 0.0

    def _grown(self, x: Array, y: Array, seed: int) -> list[Any]:
        """Returns scikit-learn's trees."""
        raise NotImplementedError

    def module(self, tensors: Tensors, input_shape: tuple[int, ...], classes: int) -> nn.Module:
        """Returns the module from rows, ``(n, *input_shape)``, to logits, ``(n, classes)``."""
        return Trees(tensors, features=math.prod(input_shape), classes=classes, log=True)


@dataclass(frozen=True)
class Tree(_Carts):
    """Decision tree, grown by CART; a class's probability is its share of the training rows in the leaf.

    Source: Breiman, Friedman, Olshen and Stone, Classification and Regression Trees (1984); grown by scikit-learn.
    Category codes are compared as numbers.

    Two options make a tree answer as BigML's service did when Tramèr et al. stole its trees (USENIX Security 2016,
    section 4.2). With ``confidence`` laplace, a class of ``c`` of a leaf's ``n`` rows gets ``(c + 1) / (n + k)``
    (Provost and Domingos, "Tree Induction for Probability-Based Ranking", Machine Learning 52, 2003), so that the
    answers of leaves of different sizes differ; BigML's own confidence is a bound, and no distribution over
    classes. With ``missing`` stop, a row ends at a node whose feature it lacks, and gets that node's answer.

    Attributes:
        depth: Maximum depth of the tree; unlimited by default.
        leaf: Minimum number of training rows in a leaf.
        confidence: A class's probability in a node: its share of the node's training rows, or Laplace's estimate.
        missing: Where a row goes that lacks a node's feature: the way that training learnt, or no further.
    """

    depth: int | None = None
    leaf: int = 1
    confidence: Literal["share", "laplace"] = "share"
    missing: Literal["learnt", "stop"] = "learnt"

    def __post_init__(self) -> None:
        at_least_1(self, depth=self.depth, leaf=self.leaf)

    def module(self, tensors: Tensors, input_shape: tuple[int, ...], classes: int) -> nn.Module:
        """Returns the module from rows, ``(n, *input_shape)``, to logits, ``(n, classes)``."""
        features, stop = math.prod(input_shape), self.missing == "stop"
        return Trees(tensors, features=features, classes=classes, log=True, stop=stop)

    def _prior(self) -> float:
        return 1.0 if self.confidence == "laplace" else 0.0

    def _grown(self, x: Array, y: Array, seed: int) -> list[Any]:
        from sklearn.tree import DecisionTreeClassifier  # deferred: importing scikit-learn takes a second

        model = DecisionTreeClassifier(max_depth=self.depth, min_samples_leaf=self.leaf, random_state=seed)
        return [model.fit(x, y).tree_]


@dataclass(frozen=True)
class Forest(_Carts):
    """Random forest; a class's probability is the mean over the trees.

    Source: Breiman, "Random Forests", Machine Learning 45, 2001; grown by scikit-learn. Category codes are
    compared as numbers.

    Attributes:
        trees: Number of trees.
        depth: Maximum depth of a tree; unlimited by default.
        leaf: Minimum number of training rows in a leaf.
    """

    trees: int = 100
    depth: int | None = None
    leaf: int = 1

    def __post_init__(self) -> None:
        at_least_1(self, trees=self.trees, depth=self.depth, leaf=self.leaf)

    def _grown(self, x: Array, y: Array, seed: int) -> list[Any]:
        from sklearn.ensemble import RandomForestClassifier

        model = RandomForestClassifier(
            self.trees, max_depth=self.depth, min_samples_leaf=self.leaf, random_state=seed
        )
        return [tree.tree_ for tree in model.fit(x, y).estimators_]


def at_least_1(family: object, **numbers: int | None) -> None:
    """Raises BadInput if one of a family's fields is too small for a tree."""
    if any(number is not None and number < 1 for number in numbers.values()):
        raise BadInput(f"{family}: {', '.join(numbers)} must be large enough to grow a tree")
