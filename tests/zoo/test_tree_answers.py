"""Trees that answer as BigML's service did: confidences that tell a node's size, and rows that end early."""

from __future__ import annotations

import numpy as np
from kinds import table

from zoo.data.pool import Pool
from zoo.families.trees import Tree
from zoo.recipe import Recipe


def complete(n: int, seed: int = 0) -> Pool:
    pool = table(n, seed)
    return pool.take(~np.isnan(pool.x).any(axis=1))


def test_laplaces_estimate_tells_the_sizes_of_pure_leaves() -> None:
    pool = complete(300)
    plain, sized = (Recipe(Tree(confidence=kind)).train(pool) for kind in ("share", "laplace"))
    assert len(np.unique(plain.predict(pool.x), axis=0)) == 2
    probs = sized.predict(pool.x)
    assert (probs.argmax(1) == plain.predict(pool.x).argmax(1)).all()
    assert len(np.unique(probs, axis=0)) > 5
    leaf, rows = np.unique(probs, axis=0)[-1], len(probs[(probs == probs.max(0)[1]).any(axis=1)])
    assert leaf.sum() == 1 or abs(leaf.sum() - 1) < 1e-6
    largest = 1 / (1 - probs.max()) - 2  # (n + 1) / (n + 2)
    assert abs(largest - round(largest)) < 1e-2 and 1 < largest < 300
    assert rows >= round(largest)


def test_a_row_ends_where_its_feature_is_missing() -> None:
    pool = complete(300)
    tree = Recipe(Tree(depth=3, confidence="laplace", missing="stop")).train(pool)
    nothing = np.full((1, 3), np.nan, np.float32)
    counts = np.bincount(pool.y) + 1
    assert np.allclose(tree.predict(nothing), counts / counts.sum(), atol=1e-6)
    tensors = tree.tensors()
    first, cut = int(tensors["feature"][0]), float(tensors["threshold"][0])
    one = nothing.copy()
    one[0, first] = np.float32(cut - 1)
    below = pool.y[pool.x[:, first] <= cut]
    counts = np.bincount(below, minlength=2) + 1
    second = int(tensors["feature"][int(tensors["left"][0])])
    if second != first:
        assert np.allclose(tree.predict(one), counts / counts.sum(), atol=1e-6)
