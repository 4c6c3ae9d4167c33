from __future__ import annotations

import numpy as np
import pytest
from reached import reach

from attacker import TRnd
from wire import BadInput, BudgetSpent
from zoo.data.pool import Pool
from zoo.families.mlp import Mlp
from zoo.network import Network

STEP = 64 / 255
# Nothing is learnt in so few and small steps: the surrogate's gradients can be had afterwards.
STILL = {"family": "softmax", "lrs": (1e-12,), "epochs": (1,), "folds": 2}


def test_a_new_row_goes_towards_a_random_class_other_than_its_own(digits: Pool, victim: Network) -> None:
    oracle, record = reach(victim.predict, bounded=False)
    attack = TRnd(seeds=40, rounds=2, inner=4, **STILL)
    surrogate = attack.extract(oracle, digits, np.random.default_rng(0))
    assert len(record.rows) == oracle.spent == 160
    before, new = record.rows[:40], record.rows[40:80]
    labels = victim.predict(before).argmax(axis=1)
    # A softmax of linear scores has gradients of one sign pattern along so short a way, but for a few features.
    towards = np.stack([np.sign(surrogate.gradient(before, np.full(40, c))) for c in range(10)])
    moved = new[:, None, None] - before[None, None]
    fits = (np.abs(moved - STEP * towards[None]).reshape(40, 10, 40, -1) < 1e-5).mean(axis=3)
    to, of = np.unravel_index(fits.reshape(40, -1).argmax(axis=1), (10, 40))
    assert fits.max(axis=(1, 2)).min() > 0.8
    assert sorted(of) == list(range(40))
    assert (to != labels[of]).all()
    assert len(set(to.tolist())) > 5


def test_steps_are_small_ones_and_stay_in_range(digits: Pool, victim: Network) -> None:
    oracle, record = reach(victim.predict)
    TRnd(seeds=10, rounds=2, epochs=(2,), lrs=(1e-2,), family="mlp").extract(
        oracle, digits, np.random.default_rng(0)
    )
    assert (record.rows.min(), record.rows.max(), len(record.rows)) == (0, 1, 40)
    change = np.abs(record.rows[10:20, None] - record.rows[None, :10]).reshape(10, 10, -1).max(axis=2).min(axis=1)
    assert (change <= STEP + 1e-6).all() and change.max() > STEP / 2


def test_the_search_chooses_the_training_that_learns(digits: Pool, victim: Network) -> None:
    oracle, _ = reach(victim.predict)
    attack = TRnd(seeds=60, rounds=0, family="mlp", lrs=(1e-9, 1e-2), epochs=(1, 40), folds=3)
    surrogate = attack.extract(oracle, digits, np.random.default_rng(0))
    assert surrogate.training is not None
    assert (surrogate.training.lr, surrogate.training.epochs) == (1e-2, 40)


def test_the_search_is_repeated_as_the_set_grows_and_keeps_the_steps(digits: Pool, victim: Network) -> None:
    fields = {"family": "mlp", "lrs": (1e-2,), "epochs": (8,), "folds": 2, "search_rows": 40}
    epochs = {}
    for every in (0, 1, 2):
        oracle, _ = reach(victim.predict)
        surrogate = TRnd(seeds=20, rounds=3, search_every=every, **fields).extract(
            oracle, digits, np.random.default_rng(0)
        )
        assert surrogate.training is not None
        epochs[every] = surrogate.training.epochs
    assert epochs == {0: 8, 1: 2, 2: 4}  # of 40 of the 160, or of the 80, rows


def test_a_row_that_is_not_targeted_leaves_its_own_class(digits: Pool, victim: Network) -> None:
    oracle, record = reach(victim.predict, bounded=False)
    attack = TRnd(seeds=40, rounds=1, inner=1, crafter="non_targeted", **STILL)
    surrogate = attack.extract(oracle, digits, np.random.default_rng(0))
    before, new = record.rows[:40], record.rows[40:]
    own = np.sign(surrogate.gradient(before, victim.predict(before).argmax(axis=1), "log_probability"))
    moved = new[:, None] - before[None]
    fits = (np.abs(moved + STEP * own[None]).reshape(40, 40, -1) < 1e-5).mean(axis=2)
    assert fits.max(axis=1).min() > 0.8
    assert sorted(fits.argmax(axis=1).tolist()) == list(range(40))


def test_without_answers_the_seeds_alone_are_queried(digits: Pool, victim: Network) -> None:
    oracle, record = reach(victim.predict)
    TRnd(seeds=30, rounds=2, answers="parent", **STILL).extract(oracle, digits, np.random.default_rng(0))
    assert len(record.rows) == oracle.spent == 30


def test_colour_adds_one_number_to_each_channel() -> None:
    rng = np.random.default_rng(0)
    x = rng.random((30, 3, 4, 4), np.float32)
    network = Network.new(Mlp((4,)), (3, 4, 4), ("a", "b"), seed=0)
    attack = TRnd(crafter="color", step=0.1)
    new = attack._synthesise(network, x, np.zeros(30, np.int64), rng, (-9, 9))
    change = (new - x).reshape(30, 3, 16)
    assert np.abs(change - change[:, :, :1]).max() < 1e-6
    assert 0.08 < np.abs(change).max() <= 0.1 + 1e-6
    assert len(np.unique(change[:, :, 0].round(5))) == 90


def test_a_budget_ends_it_within_a_round(digits: Pool, victim: Network) -> None:
    oracle, _ = reach(victim.predict, budget=50)
    TRnd(seeds=20, **STILL).extract(oracle, digits, np.random.default_rng(0))
    assert oracle.spent == 50
    assert isinstance(oracle.ended, BudgetSpent)


@pytest.mark.parametrize(
    "wrong",
    [
        {"seeds": 0},
        {"inner": 0},
        {"folds": 1},
        {"lrs": ()},
        {"epochs": (4, 4)},
        {"search_every": -1},
        {"search_rows": 1},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(BadInput, match="must"):
        TRnd(**wrong)
