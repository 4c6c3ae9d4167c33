from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from reached import reach

from attacker import Retraining
from wire import Array, BadInput, BudgetSpent
from zoo.data.pool import Pool
from zoo.network import Network

NONE = Pool(np.empty((0, 6), np.float32))
NORMAL = np.array([3, -1, 2, 0.5, -4, 1], np.float32)
QUICK = {"family": "softmax", "epochs": 30, "batch": 16, "lr": 0.05}
TEST = np.random.default_rng(9).random((5000, 6), np.float32)


def plane(x: Array) -> Array:
    """A linear victim of two classes, which tells labels."""
    above = x @ NORMAL > NORMAL.sum() / 2
    return np.stack([~above, above], axis=1).astype(np.float32)


def agreement(copy: Network) -> float:
    return float((copy.predict(TEST).argmax(axis=1) == plane(TEST).argmax(axis=1)).mean())


def distance(x: Array) -> Array:
    """How far rows are from the victim's boundary."""
    far: Array = np.abs(x @ NORMAL - NORMAL.sum() / 2) / np.linalg.norm(NORMAL)
    return far


def test_rounds_after_the_first_ask_near_the_boundary_and_are_worth_it() -> None:
    errors = {1: 0.0, 5: 0.0}
    rows = {}
    for seed in range(2):
        for rounds in errors:
            oracle, record = reach(plane, shape=(6,), classes=2, tells_probs=False)
            # Rows on the boundary need large weights, and so a long training.
            attack = Retraining(queries=200, rounds=rounds, family="softmax", epochs=300, lr=1.0)
            errors[rounds] += 1 - agreement(attack.extract(oracle, NONE, np.random.default_rng(seed)))
            assert oracle.spent == 200
            rows[rounds] = record.rows
    assert distance(rows[5][160:]).mean() < distance(rows[1]).mean() / 3
    assert errors[5] / 2 < 0.015
    assert errors[5] < errors[1]


def test_while_there_is_no_boundary_rows_are_uniform() -> None:
    oracle, record = reach(lambda x: np.eye(2)[np.zeros(len(x), int)], shape=(6,), classes=2)
    Retraining(queries=90, rounds=3, **QUICK).extract(oracle, NONE, np.random.default_rng(0))
    assert len(record.rows) == 90
    assert np.std(record.rows[60:]) == pytest.approx(12**-0.5, abs=0.03)


@pytest.mark.parametrize("budget", [30, 50])
def test_a_budget_ends_it_within_a_round(budget: int) -> None:
    oracle, _ = reach(plane, shape=(6,), classes=2, budget=budget)
    copy = Retraining(queries=200, rounds=5, **QUICK).extract(oracle, NONE, np.random.default_rng(0))
    assert oracle.spent == budget
    assert isinstance(oracle.ended, BudgetSpent)
    assert agreement(copy) > 0.8


@pytest.mark.parametrize("wrong", [{"rounds": 0}, {"queries": 3}, {"tolerance": 1}])
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="rounds must lie between 1 and queries"):
        Retraining(**wrong)


def test_features_without_a_range_are_refused_before_anything_is_spent() -> None:
    oracle, _ = reach(plane, shape=(6,), classes=2, bounded=False)
    with pytest.raises(BadInput, match="uniform"):
        Retraining().extract(oracle, NONE, np.random.default_rng(0))
    assert oracle.spent == 0
