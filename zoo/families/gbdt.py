"""Gradient-boosted trees."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from wire import Array, BadInput
from zoo.data.pool import Pool
from zoo.families.fitted import Fitted, flat
from zoo.families.trees import Trees, at_least_1, joined
from zoo.tensors import Tensors


@dataclass(frozen=True)
class Gbdt(Fitted):
    """Histogram-based gradient-boosted trees; a categorical split divides the codes into two sets.

    Source: Ke et al., "LightGBM: A Highly Efficient Gradient Boosting Decision Tree", NeurIPS 2017, after
    Friedman, "Greedy Function Approximation", Annals of Statistics 29, 2001; grown by scikit-learn's
    HistGradientBoostingClassifier. A code that occurs in no training row is treated as missing.

    Attributes:
        rounds: Boosting rounds; a round grows one tree per class, or one tree for two classes.
        leaves: Maximum number of leaves of a tree.
        lr: Learning rate, a factor on each tree's values.
    """

    tabular: ClassVar[bool] = True

    rounds: int = 100
    leaves: int = 31
    lr: float = 0.1

    def __post_init__(self) -> None:
        at_least_1(self, rounds=self.rounds, leaves=self.leaves - 1)
        if not 0 < self.lr < math.inf:
            raise BadInput(f"{self}: lr must be greater than 0 and finite")

    def fit(self, pool: Pool, seed: int) -> Tensors:
        """Grows the trees, and checks that our copy of them predicts as scikit-learn does.

        Raises:
            BadInput: A feature has more than 255 categories.
        """
        from sklearn.ensemble import HistGradientBoostingClassifier  # deferred: importing it takes a second

        x, y = flat(pool)
        categorical = np.array([bool(feature.categories) for feature in pool.features] or [False] * x.shape[1])
        most = max((len(feature.categories) for feature in pool.features), default=0)
        if most > 255:
            raise BadInput(f"a feature has {most} categories; at most 255 can be split into sets")
        model = HistGradientBoostingClassifier(
            max_iter=self.rounds,
            max_leaf_nodes=self.leaves,
            learning_rate=self.lr,
            categorical_features=categorical if categorical.any() else None,
            early_stopping=False,
            random_state=seed,
        )
        tensors = _read(model.fit(x, y), categorical, most, len(pool.class_names))
        sample = x[:1000]
        probs = self.module(tensors, pool.input_shape, len(pool.class_names))(torch.from_numpy(sample)).softmax(1)
        if not np.allclose(probs.numpy(), model.predict_proba(sample), atol=1e-6):
            raise RuntimeError("this version of scikit-learn stores boosted trees in an unknown format")
        return tensors

    def module(self, tensors: Tensors, input_shape: tuple[int, ...], classes: int) -> nn.Module:
        """Returns the module from rows, ``(n, *input_shape)``, to logits, ``(n, classes)``."""
        return Trees(tensors, features=math.prod(input_shape), classes=classes, log=False)


def _read(model: Any, categorical: Array, most: int, classes: int) -> Tensors:
    """Reads scikit-learn's boosted trees.

    Args:
        model: The fitted HistGradientBoostingClassifier.
        categorical: Which features are categorical, ``(d,)`` bool.
        most: Largest number of categories of a feature.
        classes: Number of classes k.
    """
    order = np.concatenate([np.flatnonzero(categorical), np.flatnonzero(~categorical)])  # scikit-learn's order
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
            trees.append(
                {
                    "leaf": leaf,
                    "feature": order[nodes["feature_idx"]],
                    "threshold": nodes["num_threshold"],
                    "missing_left": nodes["missing_go_to_left"],
                    "left": nodes["left"],
                    "right": nodes["right"],
                    "choice": choice,
                    "value": value,
                }
            )
    base = model._baseline_prediction.reshape(-1)
    return joined(
        trees,
        base if classes > 2 else np.array([0, base[0]]),
        np.array(chosen) if chosen else np.zeros((0, 1), dtype=bool),
    )
