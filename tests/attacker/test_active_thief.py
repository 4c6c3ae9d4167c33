from __future__ import annotations

from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
import torch
from reached import reach

from attacker.extraction.active_learning import deepfool, entropy, k_center
from attacker.extraction.active_thief import ActiveThief
from wire import Array, BadInput
from zoo.data.pool import Pool
from zoo.families.logistic import Softmax
from zoo.network import Network

STRATEGIES = get_args(get_type_hints(ActiveThief)["strategy"])
QUICK: dict[str, Any] = {"family": "mlp", "epochs": 30, "early_stopping": 5, "rounds": 2, "queries": 200}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_each_strategy_asks_about_rows_of_the_pool_once_and_steals(
    strategy: Any, digits: Pool, victim: Network
) -> None:
    pool = digits.take(np.unique(digits.x[800:1500], axis=0, return_index=True)[1] + 800)
    oracle, record = reach(victim.predict, max_rows=1000)
    copy = ActiveThief(strategy=strategy, **QUICK).extract(oracle, pool, np.random.default_rng(0))
    asked = {row.tobytes() for row in record.rows}
    assert len(asked) == oracle.spent == 200 and asked <= {row.tobytes() for row in pool.x}
    assert [len(batch) for batch in record.batches] == [60, 70, 70]
    test = digits.x[1500:]
    assert (copy.predict(test).argmax(1) == victim.predict(test).argmax(1)).mean() > 0.6


def test_a_budget_or_a_pool_that_ends_leaves_a_surrogate(digits: Pool, victim: Network) -> None:
    for budget, rows, spent in ((5, 700, 5), (45, 700, 45), (90, 700, 90), (None, 130, 130)):
        oracle, _ = reach(victim.predict, max_rows=1000, budget=budget)
        pool = digits.take(slice(800, 800 + rows))
        copy = ActiveThief(**QUICK).extract(oracle, pool, np.random.default_rng(0))
        assert oracle.spent == spent and np.isfinite(copy.predict(digits.x[:3])).all()


def test_uncertain_rows_have_the_greatest_entropy() -> None:
    found = entropy(np.array([[1, 0, 0], [0.5, 0.5, 0], [1 / 3, 1 / 3, 1 / 3]]))
    assert found == pytest.approx([0, np.log(2), np.log(3)])


def test_centers_are_the_farthest_points_one_after_another() -> None:
    points = np.array([[0.0], [1], [10], [4], [9.5]])
    assert k_center(points, np.array([[0.0]]), 2).tolist() == [2, 3]
    assert sorted(k_center(points, np.array([[0.0]]), 9).tolist()) == [0, 1, 2, 3, 4]
    assert k_center(points, np.array([[0.0], [10.0]]), 1).tolist() == [3]


def test_deepfool_measures_the_distance_to_the_boundary_of_a_linear_model() -> None:
    network = Network.new(Softmax(), (2,), ("a", "b", "c"), seed=0)
    weights: Array = np.array([[1, 0], [0, 2], [-1, -1]], np.float32)
    with torch.no_grad():
        network.module[1].weight.copy_(torch.from_numpy(weights))
        network.module[1].bias.zero_()
    x = np.random.default_rng(0).random((50, 2), np.float32)
    logits = x @ weights.T
    own = logits.argmax(axis=1)
    gaps = logits[np.arange(50), own][:, None] - logits
    lengths = np.linalg.norm(weights[own][:, None] - weights, axis=2)
    exact = np.where(lengths > 0, gaps / np.maximum(lengths, 1e-9), np.inf).min(axis=1)
    assert deepfool(network, x, 1) == pytest.approx(exact, abs=2e-4)
    assert deepfool(network, x, 5) == pytest.approx(exact, abs=5e-3)


@pytest.mark.parametrize(
    "wrong", [{"rounds": 0}, {"early_stopping": 0}, {"seed_share": 0.9}, {"validation_share": 0.0}]
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="must be"):
        ActiveThief(**wrong)
