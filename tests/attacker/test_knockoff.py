from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from reached import reach

from attacker.asking import NothingAnswered
from attacker.extraction.knockoff import Knockoff, rewards
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
    with pytest.raises(
        BadInput, match=r"no family 'cnnn'; expected one of softmax, logistic, mlp, cnn, resnet, torchvision"
    ):
        Knockoff(family="cnnn").extract(oracle, digits, np.random.default_rng(0))
    assert oracle.spent == 0


ADAPTIVE = Knockoff(family="softmax", epochs=1, strategy="adaptive", round=32)


def test_the_rewards_of_an_answer() -> None:
    answer, guess = np.array([0.7, 0.2, 0.1]), np.array([0.5, 0.25, 0.25])
    past = [np.array([1.0, 0, 0]), np.array([0, 1.0, 0])]  # the mean is 1/2, 1/2, 0
    loss = (0.7 * np.log(2) + 0.3 * np.log(4)) / np.log(3)
    assert rewards(answer, guess, past) == pytest.approx([0.7 - 0.2, 0.2 + 0 + 0.1, loss])
    assert rewards(answer, guess, past[:1])[1] == pytest.approx(0 + 0.2 + 0.1)
    assert rewards(answer, guess, [])[1] == pytest.approx(1)
    assert rewards(answer, np.full(3, 1 / 3), past)[2] == pytest.approx(1)
    assert rewards(answer, np.array([0, 0, 1.0]), past)[2] == 1
    assert rewards(np.eye(3)[0], np.eye(3)[0], past)[2] == 0


@pytest.mark.parametrize(
    ("reward", "expected"), [("certainty", 0), ("diversity", 0.05), ("loss", 0.5), ("all", 0.55)]
)
def test_each_reward_counts_less_its_mean_over_the_past(reward: str, expected: float) -> None:
    past = [np.array([0.0, 0, 0.1]), np.array([1.0, 0.5, 0.3])]
    attack = Knockoff(reward=reward)  # type: ignore[arg-type]
    assert attack.advantage(np.array([0.5, 0.3, 0.7]), past) == pytest.approx(expected)
    assert attack.advantage(np.array([0.5, 0.3, 0.7]), []) == 0


@pytest.mark.parametrize("budget", [1, 32, 205, 300, 400])
def test_the_adaptive_strategy_spends_the_budget_to_the_row_and_asks_about_no_row_twice(
    digits: Pool, victim: Network, budget: int
) -> None:
    pool = digits.take(np.unique(digits.x, axis=0, return_index=True)[1][:300])
    oracle, record = reach(victim.predict, budget=budget)
    ADAPTIVE.extract(oracle, pool, np.random.default_rng(0))
    assert oracle.spent == len(record.rows) == len(as_set(record.rows)) == min(budget, 300)
    assert as_set(record.rows) <= as_set(pool.x)


def test_the_seed_decides_what_the_adaptive_strategy_asks_about(digits: Pool, victim: Network) -> None:
    asked = []
    for seed in (3, 3, 4):
        oracle, record = reach(victim.predict, budget=100)
        ADAPTIVE.extract(oracle, digits, np.random.default_rng(seed))
        asked.append(record.rows)
    assert np.array_equal(asked[0], asked[1])
    assert not np.array_equal(asked[0], asked[2])


def test_classes_of_which_the_victim_is_certain_are_preferred(digits: Pool) -> None:
    assert digits.y is not None
    zeros = as_set(digits.x[digits.y == 0])

    def predict(x: Array) -> Array:
        certain = np.array([row.tobytes() in zeros for row in x])[:, None]
        return np.where(certain, np.eye(10)[0], np.full(10, 0.1)).astype(np.float32)

    oracle, record = reach(predict, budget=300)
    replace(ADAPTIVE, reward="certainty").extract(oracle, digits, np.random.default_rng(0))
    assert len(zeros & as_set(record.rows)) > 2 * 300 / 10


def test_the_adaptive_strategy_needs_labels(digits: Pool, victim: Network) -> None:
    oracle, _ = reach(victim.predict, budget=100)
    with pytest.raises(BadInput, match="the pool has no labels"):
        ADAPTIVE.extract(oracle, Pool(digits.x), np.random.default_rng(0))
    assert oracle.spent == 0


def test_the_adaptive_strategy_learns_from_labels_alone_and_after_a_refusal(digits: Pool, victim: Network) -> None:
    def refusing(x: Array) -> Answer:
        if oracle.spent >= 96:
            raise Refused("no longer welcome")
        return Answer(victim.predict(x).argmax(axis=1))

    oracle = Oracle(refusing, Card("m", (1, 8, 8), 10, max_rows=32), 128)
    surrogate = replace(ADAPTIVE, epochs=60).extract(oracle, digits, np.random.default_rng(0))
    assert oracle.spent == 96
    agreement = surrogate.predict(digits.x).argmax(axis=1) == victim.predict(digits.x).argmax(axis=1)
    assert agreement.mean() > 0.5
