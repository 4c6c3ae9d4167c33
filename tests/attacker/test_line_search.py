from __future__ import annotations

import numpy as np
import pytest
from reached import reach

from attacker import LineSearch
from wire import Array, BadInput, BudgetSpent
from zoo.data.pool import Pool
from zoo.network import Network


def halves(x: Array) -> Array:
    """A victim of two classes: whether the mean of a row is above a half."""
    above = x.reshape(len(x), -1).mean(axis=1) > 0.5
    return np.stack([~above, above], axis=1).astype(np.float32)


def test_lines_between_random_rows_of_two_classes_close_in_on_the_boundary(digits: Pool) -> None:
    oracle, record = reach(halves, classes=2)
    attack = LineSearch(points=64, lines=5, at_once=1, tolerance=2**-8, epochs=1)
    attack.extract(oracle, digits, np.random.default_rng(0))
    points, probes = record.rows[:64], record.rows[64:]
    assert np.std(points) == pytest.approx(12**-0.5, abs=0.01)
    assert [len(batch) for batch in record.batches[2:]] == [1] * 40
    for line in probes.reshape(5, 8, -1):
        lengths = np.linalg.norm(np.diff(line, axis=0), axis=1)
        assert lengths == pytest.approx(lengths[0] / 2.0 ** np.arange(7), rel=1e-3)
        assert abs(line[-1].mean() - 0.5) <= np.abs(line[-1] - line[-2]).mean() * 2


def test_lines_at_once_are_the_lines_one_by_one_in_fewer_requests(digits: Pool) -> None:
    asked = []
    for at_once, requests in ((1, 40), (5, 8)):
        oracle, record = reach(halves, classes=2)
        attack = LineSearch(points=64, lines=5, at_once=at_once, tolerance=2**-8, epochs=1)
        attack.extract(oracle, digits, np.random.default_rng(0))
        assert oracle.requests == 2 + requests
        asked.append(record.rows[64:].reshape(40, -1))
    alone, together = asked[0].reshape(5, 8, -1), asked[1].reshape(8, 5, -1)
    assert np.array_equal(alone, together.swapaxes(0, 1))


def test_a_budget_is_spent_on_whole_lines(digits: Pool) -> None:
    oracle, record = reach(halves, classes=2, budget=64 + 24 + 3)
    LineSearch(points=64, lines=100, tolerance=2**-8, epochs=1).extract(oracle, digits, np.random.default_rng(0))
    assert oracle.spent == 91
    lines = record.rows[64:88].reshape(8, 3, -1)
    assert np.abs(lines[-1].mean(axis=1) - 0.5).max() < 2**-8


def test_rows_of_the_pool_are_ends_where_random_rows_are_all_of_one_class(digits: Pool, victim: Network) -> None:
    def one_class(x: Array) -> Array:  # what is black nowhere is an 8
        probs = victim.predict(x)
        probs[(x.reshape(len(x), -1) > 0).all(axis=1)] = np.eye(10)[8]
        return probs

    oracle, record = reach(one_class)
    LineSearch(points=50, lines=3, instances=6, epochs=1, family="mlp").extract(
        oracle, digits, np.random.default_rng(0)
    )
    known = {row.tobytes() for row in digits.x}
    assert [row.tobytes() in known for row in record.rows[48:58]] == [False] * 2 + [True] * 6 + [False] * 2
    assert oracle.spent == 50 + 6 + 3 * 10


def test_without_a_second_class_there_is_no_line(digits: Pool) -> None:
    oracle, _ = reach(lambda x: np.eye(10)[np.full(len(x), 3)])
    LineSearch(points=20, epochs=1).extract(oracle, digits, np.random.default_rng(0))
    assert oracle.spent == 20 + 10


def test_a_budget_ends_it_within_a_line(digits: Pool) -> None:
    oracle, record = reach(halves, classes=2, budget=73)
    surrogate = LineSearch(points=64, epochs=2).extract(oracle, digits, np.random.default_rng(0))
    assert len(record.rows) == oracle.spent == 73
    assert isinstance(oracle.ended, BudgetSpent)
    assert surrogate.classes == 2


def test_features_without_a_range_are_refused_before_anything_is_spent(digits: Pool) -> None:
    oracle, _ = reach(halves, classes=2, bounded=False)
    with pytest.raises(BadInput, match="uniform"):
        LineSearch().extract(oracle, digits, np.random.default_rng(0))
    assert oracle.spent == 0
    with pytest.raises(BadInput, match="tolerance"):
        LineSearch(tolerance=0)
