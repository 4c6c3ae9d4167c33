from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from reached import Predict, reach

from attacker.asking import NotApplicable
from attacker.extraction.lowd_meek import LowdMeek
from wire import Array, BadInput
from zoo.data.pool import Pool

WEIGHTS = np.array([3, -1, 0.02, 0, 2.5, -4], np.float64)
NONE = Pool(np.empty((0, 6), np.float32))
TEST = np.random.default_rng(9).random((5000, 6), np.float32)


def linear(bias: float) -> Predict:
    def predict(x: Array) -> Array:
        second = 1 / (1 + np.exp(-(x.reshape(len(x), -1).astype(np.float64) @ WEIGHTS + bias)))
        return np.stack([1 - second, second], axis=1)

    return predict


def stolen(attack: LowdMeek, bias: float = -0.3, pool: Pool = NONE, **known: Any) -> tuple[Any, Any]:
    oracle, _ = reach(linear(bias), shape=(6,), classes=2, tells_probs=False, max_rows=100, **known)
    return attack.extract(oracle, pool, np.random.default_rng(0)), oracle


def agreement(copy: Any, bias: float = -0.3) -> float:
    return float((copy.predict(TEST).argmax(1) == linear(bias)(TEST).argmax(1)).mean())


def test_labels_alone_tell_the_weights_up_to_a_factor() -> None:
    copy, oracle = stolen(LowdMeek())
    found = copy.module[1].weight.detach().numpy()[0].astype(np.float64)
    assert found / np.abs(found).max() == pytest.approx(WEIGHTS / 4, abs=1e-4)
    assert agreement(copy) > 0.999
    assert oracle.spent < 10 + 8 * 22 and oracle.requests < 80


def test_fewer_rows_tell_less() -> None:
    rough, few = stolen(LowdMeek(tolerance=0.03))
    fine, more = stolen(LowdMeek(tolerance=1e-4))
    assert few.spent < more.spent
    assert 0.8 < agreement(rough) <= agreement(fine)


def test_a_budget_that_ends_leaves_the_weights_so_far() -> None:
    copy, oracle = stolen(LowdMeek(), budget=60)
    assert oracle.spent <= 60 and np.isfinite(copy.predict(TEST)).all()
    cut, oracle = stolen(LowdMeek(), budget=70)  # in the middle of the bisection of all features' lines
    assert oracle.ended is not None and agreement(cut) > 0.75


def test_a_rare_class_is_found_among_rows_of_the_pool() -> None:
    bias = -5.8  # so that hardly any uniform row is of the second class
    rare = np.array([[1, 0, 1, 0, 1, 0], [1, 0, 0, 0, 1, 0.0]], np.float32)
    rare[0, 5], bias = 0.0, -5.3
    with pytest.raises(NotApplicable, match="all of 40 rows are of one class"):
        stolen(LowdMeek(points=40), bias)
    copy, _ = stolen(LowdMeek(points=40), bias, Pool(np.concatenate([TEST[:30], rare])))
    assert agreement(copy, bias) > 0.999


def test_it_takes_two_classes_and_sensible_settings() -> None:
    oracle, _ = reach(linear(0), shape=(6,), classes=3)
    with pytest.raises(NotApplicable, match="takes two"):
        LowdMeek().extract(oracle, NONE, np.random.default_rng(0))
    assert oracle.spent == 0
    for wrong in ({"points": 1}, {"change": 0.0}, {"tolerance": 1.0}):
        with pytest.raises(BadInput, match="must be"):
            LowdMeek(**wrong)  # type: ignore[arg-type]
