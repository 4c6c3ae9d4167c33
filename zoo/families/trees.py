"""Decision trees, alone and in ensembles. They take rows with missing features."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from wire import Array, BadInput
from zoo.data.pool import Pool
from zoo.families.fitted import Form, Learnt, check, check_range, table

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
    """Trees in one table of nodes; the values of the leaves that a row reaches are added up.

    A node comes before its children, and a leaf is its own child. A row goes left where its feature is at most the
    threshold; where the node's ``choice`` is not negative, that row of ``chosen`` says which codes of the category
    go left; and what is missing goes where ``missing_left`` says.
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

    def __init__(self, learnt: Learnt, *, log: bool) -> None:
        """Takes the table, and whether values are probabilities, of which logits are the logarithms."""
        super().__init__()
        for name, tensor in learnt.items():
            self.register_buffer(name, tensor)
        self.log, self.depth = log, _depth(learnt["left"].tolist(), learnt["right"].tolist())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps rows, ``(n, ...)``, to logits, ``(n, k)``."""
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
            at = torch.where(left, self.left[at], self.right[at])
        scores = self.value[at].sum(1) + self.base
        return scores.log() if self.log else scores


def _depth(left: Sequence[int], right: Sequence[int]) -> int:
    depth = [0] * len(left)
    for node in reversed(range(len(left))):
        if left[node] != node:
            depth[node] = 1 + max(depth[left[node]], depth[right[node]])
    return max(depth)


def _module(learnt: Learnt, input_shape: tuple[int, ...], classes: int, *, log: bool) -> Trees:
    features = math.prod(input_shape)
    check(learnt, _FORMS, k=classes)
    nodes = len(learnt["feature"])
    if not nodes or not len(learnt["root"]):
        raise ValueError("there are no trees")
    own = torch.arange(nodes)
    check_range("root", learnt["root"], 0, nodes)
    check_range("feature", learnt["feature"], 0, features)
    for side in ("left", "right"):
        check_range(side, learnt[side], own + (learnt["left"] != own), nodes)  # a child comes after its node
    check_range("choice", learnt["choice"], -1, len(learnt["chosen"]))
    return Trees(learnt, log=log)


def _joined(trees: Sequence[dict[str, Array]], base: Array, chosen: Array) -> Learnt:
    """Puts the tables of trees below one another."""
    root = np.cumsum([0, *(len(tree["feature"]) for tree in trees)])
    learnt = {name: np.concatenate([tree[name] for tree in trees]) for name in trees[0]}
    for side in ("left", "right"):
        learnt[side] = np.concatenate([start + tree[side] for start, tree in zip(root, trees, strict=False)])
    learnt["threshold"] = np.nan_to_num(learnt["threshold"])  # infinite where only what is missing goes right
    learnt |= {"root": root[:-1], "base": base, "chosen": chosen}
    return {
        name: torch.from_numpy(np.ascontiguousarray(array)).to(_FORMS[name][0]) for name, array in learnt.items()
    }


def _own_children(leaf: Array, child: Array) -> Array:
    return np.where(leaf, np.arange(len(leaf)), child)


def _cart(tree: Any, share: float) -> dict[str, Array]:
    """Reads a tree of scikit-learn's; its leaves' probabilities count for a share."""
    leaf = tree.children_left < 0
    value = tree.value[:, 0]
    return {
        "feature": np.where(leaf, 0, tree.feature),
        "threshold": tree.threshold,
        "missing_left": tree.missing_go_to_left,
        "left": _own_children(leaf, tree.children_left),
        "right": _own_children(leaf, tree.children_right),
        "choice": np.full(len(leaf), -1),
        "value": share * value / value.sum(1, keepdims=True),
    }


def _carts(trees: Sequence[Any], classes: int) -> Learnt:
    return _joined(
        [_cart(tree, 1 / len(trees)) for tree in trees], np.zeros(classes), np.zeros((0, 1), dtype=bool)
    )


@dataclass(frozen=True)
class Tree:
    """Decision tree, grown by CART; a probability is a share of a leaf's training rows.

    Source: Breiman, Friedman, Olshen and Stone, Classification and Regression Trees (1984); grown by scikit-learn.
    Codes of categories are compared as numbers.

    Attributes:
        depth: Most decisions on the way to a leaf; unlimited by default.
        leaf: Fewest training rows in a leaf.
    """

    tabular: ClassVar[bool] = True

    depth: int | None = None
    leaf: int = 1

    def __post_init__(self) -> None:
        _at_least_1(self, depth=self.depth, leaf=self.leaf)

    def learn(self, pool: Pool, seed: int) -> Learnt:
        """Grows the tree."""
        from sklearn.tree import DecisionTreeClassifier  # here, since importing scikit-learn takes a second

        x, y = table(pool)
        model = DecisionTreeClassifier(max_depth=self.depth, min_samples_leaf=self.leaf, random_state=seed)
        return _carts([model.fit(x, y).tree_], len(pool.class_names))

    def module(self, learnt: Learnt, input_shape: tuple[int, ...], classes: int) -> nn.Module:
        """Returns the module that answers."""
        return _module(learnt, input_shape, classes, log=True)


@dataclass(frozen=True)
class Forest:
    """Random forest; a probability is the mean of the trees'.

    Source: Breiman, "Random Forests", Machine Learning 45, 2001; grown by scikit-learn. Codes of categories are
    compared as numbers.

    Attributes:
        trees: Number of trees.
        depth: Most decisions on the way to a leaf; unlimited by default.
        leaf: Fewest training rows in a leaf.
    """

    tabular: ClassVar[bool] = True

    trees: int = 100
    depth: int | None = None
    leaf: int = 1

    def __post_init__(self) -> None:
        _at_least_1(self, trees=self.trees, depth=self.depth, leaf=self.leaf)

    def learn(self, pool: Pool, seed: int) -> Learnt:
        """Grows the trees."""
        from sklearn.ensemble import RandomForestClassifier

        x, y = table(pool)
        model = RandomForestClassifier(
            self.trees, max_depth=self.depth, min_samples_leaf=self.leaf, random_state=seed
        )
        return _carts([tree.tree_ for tree in model.fit(x, y).estimators_], len(pool.class_names))

    def module(self, learnt: Learnt, input_shape: tuple[int, ...], classes: int) -> nn.Module:
        """Returns the module that answers."""
        return _module(learnt, input_shape, classes, log=True)


@dataclass(frozen=True)
class Gbdt:
    """Gradient-boosted trees over histograms; categories are split into sets of codes, not compared as numbers.

    Source: Ke et al., "LightGBM: A Highly Efficient Gradient Boosting Decision Tree", NeurIPS 2017, after
    Friedman, "Greedy Function Approximation", Annals of Statistics 29, 2001; grown by scikit-learn's
    HistGradientBoostingClassifier. A code that no training row had goes the way of what is missing.

    Attributes:
        rounds: Trees for each class; with two classes, trees.
        leaves: Most leaves of a tree.
        lr: Factor of what each tree adds.
    """

    tabular: ClassVar[bool] = True

    rounds: int = 100
    leaves: int = 31
    lr: float = 0.1

    def __post_init__(self) -> None:
        _at_least_1(self, rounds=self.rounds, leaves=self.leaves - 1)
        if not 0 < self.lr < math.inf:
            raise BadInput(f"{self}: lr must be greater than 0 and finite")

    def learn(self, pool: Pool, seed: int) -> Learnt:
        """Grows the trees, and checks that they were read as scikit-learn reads them.

        Raises:
            BadInput: A category has more than 255 codes.
        """
        from sklearn.ensemble import HistGradientBoostingClassifier

        x, y = table(pool)
        categorical = np.array([bool(feature.categories) for feature in pool.features] or [False] * x.shape[1])
        model = HistGradientBoostingClassifier(
            max_iter=self.rounds,
            max_leaf_nodes=self.leaves,
            learning_rate=self.lr,
            categorical_features=categorical if categorical.any() else None,
            early_stopping=False,
            random_state=seed,
        )
        most = max((len(feature.categories) for feature in pool.features), default=0)
        if most > 255:
            raise BadInput(f"a feature has {most} categories; at most 255 can be split into sets")
        learnt = self._read(model.fit(x, y), categorical, most, len(pool.class_names))
        some = x[:1000]
        probs = self.module(learnt, pool.input_shape, len(pool.class_names))(torch.from_numpy(some)).softmax(1)
        if not np.allclose(probs.numpy(), model.predict_proba(some), atol=1e-6):
            raise RuntimeError("this scikit-learn keeps its boosted trees in another way than is read here")
        return learnt

    def _read(self, model: Any, categorical: Array, most: int, classes: int) -> Learnt:
        order = np.concatenate([np.flatnonzero(categorical), np.flatnonzero(~categorical)])  # as it reorders them
        known = model._preprocessor.named_transformers_["encoder"].categories_ if categorical.any() else ()
        trees: list[dict[str, Array]] = []
        chosen: list[Array] = []
        for round_of in model._predictors:
            for column, predictor in enumerate(round_of):
                nodes = predictor.nodes
                leaf = nodes["is_leaf"].astype(bool)
                choice = np.full(len(nodes), -1)
                for node in np.flatnonzero(nodes["is_categorical"] & ~leaf):
                    bits = predictor.raw_left_cat_bitsets[nodes["bitset_idx"][node]]
                    codes = np.full(most, bool(nodes["missing_go_to_left"][node]))
                    for index, code in enumerate(known[nodes["feature_idx"][node]]):
                        if not np.isnan(code):
                            codes[int(code)] = bits[index // 32] >> (index % 32) & 1
                    choice[node] = len(chosen)
                    chosen.append(codes)
                value = np.zeros((len(nodes), classes))
                value[:, column if classes > 2 else 1] = np.where(leaf, nodes["value"], 0)
                tree = {
                    "feature": np.where(leaf, 0, order[nodes["feature_idx"]]),
                    "threshold": nodes["num_threshold"],
                    "missing_left": nodes["missing_go_to_left"],
                    "left": _own_children(leaf, nodes["left"]),
                    "right": _own_children(leaf, nodes["right"]),
                    "choice": choice,
                    "value": value,
                }
                trees.append(tree)
        base = model._baseline_prediction.reshape(-1)
        return _joined(
            trees,
            base if classes > 2 else np.array([0, base[0]]),
            np.array(chosen) if chosen else np.zeros((0, 1), dtype=bool),
        )

    def module(self, learnt: Learnt, input_shape: tuple[int, ...], classes: int) -> nn.Module:
        """Returns the module that answers."""
        return _module(learnt, input_shape, classes, log=False)


def _at_least_1(family: object, **numbers: int | None) -> None:
    if any(number is not None and number < 1 for number in numbers.values()):
        raise BadInput(f"{family}: {', '.join(numbers)} must be large enough to grow a tree")
