from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
import torch
from reached import reach

from attacker import Jbda
from wire import Array, BadInput, BudgetSpent
from zoo.data.pool import Pool
from zoo.families.logistic import Softmax
from zoo.network import Network

STEP = np.float32(0.1)


def in_order(rows: Array) -> Array:
    """Sorts rows, so that they can be compared whatever their order was."""
    flat = rows.reshape(len(rows), -1)
    return flat[np.lexsort(flat.T)]


def rounds_of(rows: Array, seeds: int) -> list[Array]:
    """Cuts the rows that were asked about into the seeds and what each doubling added."""
    cuts = [seeds * 2**rho for rho in range(10) if seeds * 2**rho < len(rows)]
    return np.split(rows, cuts)


@pytest.mark.parametrize("first, signs", [("away", (-1, -1, 1, 1, -1)), ("towards", (1, 1, -1, -1, 1))])
def test_every_round_steps_along_the_sign_of_the_logits_gradient_and_turns_in_time(
    first: Literal["away", "towards"], signs: tuple[int, ...], digits: Pool, victim: Network
) -> None:
    oracle, record = reach(victim.predict, bounded=False)
    # Without training the surrogate is the same in all rounds, and its gradients can be had afterwards.
    attack = Jbda(seeds=6, rounds=5, flip=2, epochs=0, first=first, family="mlp")
    surrogate = attack.extract(oracle, digits, np.random.default_rng(0))
    parts = rounds_of(record.rows, 6)
    assert [len(part) for part in parts] == [6, 6, 12, 24, 48, 96]
    for rho, sign in enumerate(signs):
        before = np.concatenate(parts[: rho + 1])
        labels = victim.predict(before).argmax(axis=1)
        expected = before + sign * STEP * np.sign(surrogate.gradient(before, labels))
        assert in_order(parts[rho + 1]) == pytest.approx(in_order(expected), abs=1e-6)
        wrong = before - sign * STEP * np.sign(surrogate.gradient(before, labels))
        assert in_order(parts[rho + 1]) != pytest.approx(in_order(wrong), abs=1e-6)


def test_a_surrogate_that_is_certain_still_tells_where_to_step() -> None:
    network = Network.new(Softmax(), (4,), ("a", "b"), seed=0)
    network.module[-1].weight.data[:] = 1000 * torch.eye(2, 4)
    x = np.array([[1, 0, 0, 0]], np.float32)
    assert network.predict(x)[0].tolist() == [1, 0]
    assert np.sign(network.gradient(x, np.array([0]))).tolist() == [[1, 0, 0, 0]]
    assert np.sign(network.gradient(x, np.array([1]), "log_probability")).tolist() == [[-1, 1, 0, 0]]


@pytest.mark.parametrize("rounds, rows", [(1, 20), (2, 40), (3, 47), (5, 61)])
def test_a_reservoir_bounds_what_a_round_adds(rounds: int, rows: int, digits: Pool, victim: Network) -> None:
    oracle, record = reach(victim.predict, bounded=False)
    attack = Jbda(seeds=10, rounds=rounds, reservoir=7, sigma=2, epochs=0, family="mlp")
    surrogate = attack.extract(oracle, digits, np.random.default_rng(0))
    assert oracle.spent == rows
    if rounds >= 3:
        # Seven different rows of the forty gave the seven new ones.
        before, new = record.rows[:40], record.rows[40:47]
        labels = victim.predict(before).argmax(axis=1)
        whole = before - STEP * np.sign(surrogate.gradient(before, labels))
        distances = np.abs(new[:, None] - whole[None]).reshape(7, 40, -1).max(axis=2)
        assert distances.min(axis=1) == pytest.approx(0, abs=1e-6)
        assert len(set(distances.argmin(axis=1))) == 7
        assert distances.argmin(axis=1).max() >= 7


def test_the_null_asks_about_the_seeds_alone_and_trains_on_as_many_rows(
    digits: Pool, victim: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[tuple[Array, Array]] = []
    fit = Network.fit

    def seen(self: Network, x: Array, y: Array, *args: Any, **kwargs: Any) -> Network:
        trained.append((x, y))
        return fit(self, x, y, *args, **kwargs)

    monkeypatch.setattr(Network, "fit", seen)
    oracle, record = reach(victim.predict, bounded=False)
    attack = Jbda(seeds=10, rounds=3, epochs=0, answers="parent", family="mlp")
    attack.extract(oracle, digits, np.random.default_rng(0))
    assert oracle.spent == len(record.rows) == 10
    x, y = trained[-1]
    assert len(x) == 80
    # Each new row lies a few steps from the seed whose label it has.
    told = victim.predict(x[:10]).argmax(axis=1)
    near = np.abs(x[:, None] - x[None, :10]).reshape(80, 10, -1).max(axis=2) < 3.5 * STEP
    assert all(label in told[close] for label, close in zip(y, near, strict=True))
    assert (np.bincount(y, minlength=10) == 8 * np.bincount(told, minlength=10)).all()


def test_random_steps_go_each_feature_its_own_way(digits: Pool, victim: Network) -> None:
    oracle, record = reach(victim.predict, bounded=False)
    attack = Jbda(seeds=40, rounds=1, epochs=0, direction="random", family="mlp")
    attack.extract(oracle, digits, np.random.default_rng(0))
    seeds, new = record.rows[:40], record.rows[40:]
    moved = new[:, None] - seeds[None]
    assert (np.abs(np.abs(moved) - STEP).reshape(40, 40, -1).max(axis=2).min(axis=1) < 1e-6).all()
    nearest = np.abs(moved).reshape(40, 40, -1).max(axis=2).argmin(axis=1)
    up = (moved[np.arange(40), nearest] > 0).mean()
    assert 0.45 < up < 0.55


def test_steps_stay_within_the_range_of_the_features(digits: Pool, victim: Network) -> None:
    oracle, record = reach(victim.predict)
    Jbda(seeds=10, rounds=2, epochs=1, family="mlp").extract(oracle, digits, np.random.default_rng(0))
    assert record.rows.min() == 0
    assert record.rows.max() == 1
    assert len(record.rows) == 40


def test_the_paper_asks_about_seeds_times_two_to_the_rounds(digits: Pool, victim: Network) -> None:
    oracle, record = reach(victim.predict, max_rows=4096)
    paper = Jbda(epochs=0, family="mlp")
    surrogate = paper.extract(oracle, digits, np.random.default_rng(0))
    assert oracle.spent == 150 * 2**6
    assert (paper.step, paper.flip, paper.first, Jbda().epochs) == (0.1, 3, "away", 10)
    assert [layer.out_features for layer in surrogate.module if hasattr(layer, "out_features")] == [200, 200, 10]
    assert {row.tobytes() for row in record.batches[0]} <= {row.tobytes() for row in digits.x}


def test_the_last_round_is_a_random_part_where_the_budget_ends_in_it(digits: Pool, victim: Network) -> None:
    whole, all_rows = reach(victim.predict, bounded=False)
    Jbda(seeds=20, rounds=2, epochs=0, family="mlp").extract(whole, digits, np.random.default_rng(5))
    oracle, record = reach(victim.predict, budget=50, bounded=False)
    surrogate = Jbda(seeds=20, rounds=2, epochs=0, family="mlp").extract(oracle, digits, np.random.default_rng(5))
    assert oracle.spent == len(record.rows) == 50
    assert isinstance(oracle.ended, BudgetSpent)
    assert np.array_equal(record.rows, all_rows.rows[:50])
    # It is a part of what the forty rows before would make, and not just what the first ten would.
    before, last = record.rows[:40], record.rows[40:]
    labels = victim.predict(before).argmax(axis=1)
    whole_round = before - STEP * np.sign(surrogate.gradient(before, labels))
    distances = np.abs(last[:, None] - whole_round[None]).reshape(10, 40, -1).max(axis=2)
    assert distances.min(axis=1) == pytest.approx(0, abs=1e-6)
    assert len(set(distances.argmin(axis=1))) == 10
    assert distances.argmin(axis=1).max() >= 10


@pytest.mark.parametrize("budget", [20, 40])
def test_a_budget_that_ends_with_a_round_is_spent_and_trained_on(
    budget: int, digits: Pool, victim: Network
) -> None:
    oracle, record = reach(victim.predict, budget=budget)
    surrogate = Jbda(seeds=20, epochs=60, lr=0.005, family="mlp").extract(oracle, digits, np.random.default_rng(0))
    assert oracle.spent == budget
    rows = record.rows
    assert (surrogate.predict(rows).argmax(axis=1) == victim.predict(rows).argmax(axis=1)).mean() > 0.9


def test_it_learns_from_labels_alone_and_asks_the_same_of_both(digits: Pool, victim: Network) -> None:
    asked = []
    for tells_probs in (True, False):
        oracle, record = reach(victim.predict, budget=300, tells_probs=tells_probs)
        surrogate = Jbda(seeds=100, epochs=20, family="mlp").extract(
            oracle, digits.take(slice(800, 1200)), np.random.default_rng(0)
        )
        test = digits.x[1200:]
        assert (surrogate.predict(test).argmax(axis=1) == victim.predict(test).argmax(axis=1)).mean() > 0.75
        asked.append(record.rows)
    assert np.array_equal(*asked)


def test_an_interrupt_between_rounds_leaves_what_was_learned(digits: Pool, victim: Network) -> None:
    def stop(oracle: object) -> None:
        if reached.spent >= 40:
            reached.halt("enough")

    reached, record = reach(victim.predict, budget=500, on_answer=stop)
    surrogate = Jbda(seeds=20, epochs=60, lr=0.005, family="mlp").extract(
        reached, digits, np.random.default_rng(0)
    )
    assert reached.spent == 40
    assert str(reached.ended) == "enough"
    rows = record.rows
    assert (surrogate.predict(rows).argmax(axis=1) == victim.predict(rows).argmax(axis=1)).mean() > 0.9


@pytest.mark.parametrize("wrong", [{"seeds": 0}, {"rounds": -1}, {"flip": 0}, {"reservoir": 0}])
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(BadInput, match="must be at least 1"):
        Jbda(**wrong)  # type: ignore[arg-type]
