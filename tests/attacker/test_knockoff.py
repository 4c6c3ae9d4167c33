from __future__ import annotations

import numpy as np
import pytest
from reached import reach

from attacker.asking import NothingAnswered
from attacker.extraction.knockoff import Knockoff
from wire import Answer, Array, BadInput, BudgetSpent, Card, Oracle, Refused
from zoo.data.pool import Pool
from zoo.network import Network

QUICK = Knockoff(family="mlp", epochs=1)


def as_set(rows: Array) -> set[bytes]:
    return {row.tobytes() for row in rows}


def test_each_row_of_the_pool_is_asked_about_at_most_once_and_the_budget_is_spent_to_the_row(
    digits: Pool, victim: Network
) -> None:
    pool = digits.take(np.unique(digits.x, axis=0, return_index=True)[1][:300])
    oracle, record = reach(victim.predict, budget=205)
    QUICK.extract(oracle, pool, np.random.default_rng(0))
    assert oracle.spent == len(record.rows) == len(as_set(record.rows)) == 205
    assert as_set(record.rows) < as_set(pool.x)


def test_a_pool_smaller_than_the_budget_is_asked_about_once(digits: Pool, victim: Network) -> None:
    oracle, record = reach(victim.predict, budget=500)
    QUICK.extract(oracle, digits.take(slice(100)), np.random.default_rng(0))
    assert oracle.spent == 100
    assert oracle.ended is None
    assert as_set(record.rows) == as_set(digits.x[:100])


def test_the_seed_decides_which_rows_are_asked_about(digits: Pool, victim: Network) -> None:
    asked = []
    for seed in (3, 3, 4):
        oracle, record = reach(victim.predict, budget=40)
        QUICK.extract(oracle, digits, np.random.default_rng(seed))
        asked.append(record.rows)
    assert np.array_equal(asked[0], asked[1])
    assert not np.array_equal(asked[0], asked[2])


def test_the_surrogate_agrees_with_the_victim(digits: Pool, victim: Network) -> None:
    oracle, _ = reach(victim.predict, budget=600)
    surrogate = Knockoff(epochs=8).extract(oracle, digits.take(slice(800, 1500)), np.random.default_rng(0))
    test = digits.x[1500:]
    agreement = (surrogate.predict(test).argmax(axis=1) == victim.predict(test).argmax(axis=1)).mean()
    assert agreement > 0.85
    assert (surrogate.card().low, surrogate.card().high) == (0.0, 1.0)


def test_the_whole_answer_is_learned_and_not_its_label_alone(digits: Pool) -> None:
    told = np.array([0.5, 0.3, 0.2], np.float32)
    oracle, _ = reach(lambda x: np.tile(told, (len(x), 1)), classes=3, budget=300)
    surrogate = Knockoff(family="softmax", epochs=40, lr=0.02).extract(oracle, digits, np.random.default_rng(0))
    assert surrogate.predict(digits.x[:300]).mean(axis=0) == pytest.approx(told, abs=0.03)


def test_an_interrupt_leaves_a_surrogate_trained_on_what_was_answered(digits: Pool, victim: Network) -> None:
    oracle, record = reach(victim.predict, budget=500, on_answer=lambda oracle: oracle.halt())
    surrogate = Knockoff(family="mlp", epochs=60).extract(oracle, digits, np.random.default_rng(0))
    assert oracle.spent == 32
    assert isinstance(oracle.ended, BudgetSpent)
    rows = record.rows
    assert (surrogate.predict(rows).argmax(axis=1) == victim.predict(rows).argmax(axis=1)).mean() > 0.9


def test_answers_that_turn_into_labels_alone_midway_are_learned_too(digits: Pool, victim: Network) -> None:
    def tightening(x: Array) -> Answer:
        probs = victim.predict(x)
        return Answer(probs.argmax(axis=1), probs if oracle.spent < 64 else None)

    oracle = Oracle(tightening, Card("m", (1, 8, 8), 10, max_rows=32), 128)
    QUICK.extract(oracle, digits, np.random.default_rng(0))
    assert oracle.spent == 128


def test_without_a_single_answer_there_is_no_surrogate(digits: Pool) -> None:
    def refuse(x: Array) -> Answer:
        raise Refused("no longer welcome")

    oracle = Oracle(refuse, Card("m", (1, 8, 8), 10), 100)
    with pytest.raises(NothingAnswered, match=r"not a single row was answered: no longer welcome"):
        QUICK.extract(oracle, digits, np.random.default_rng(0))


def test_an_unknown_family_costs_no_rows(digits: Pool, victim: Network) -> None:
    oracle, _ = reach(victim.predict, budget=100)
    with pytest.raises(BadInput, match=r"no family 'cnnn', only softmax, logistic, mlp, cnn, resnet, torchvision"):
        Knockoff(family="cnnn").extract(oracle, digits, np.random.default_rng(0))
    assert oracle.spent == 0
