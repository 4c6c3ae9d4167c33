"""Shadow data by those who have none."""

import numpy as np
import pytest
from reached import reach

from attacker.asking import NotApplicable
from attacker.synthesis import Synthesis, flipped, from_marginals
from wire import BadInput
from zoo.data.pool import Pool

RNG = np.random.default_rng


def counting(x):
    """Three classes, by the mean of two features out of three groups."""
    flat = x.reshape(len(x), -1)[:, :60].reshape(len(x), 3, 20).mean(axis=2)
    odds = np.exp(12 * flat)
    return (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32)


def reached(**options):
    return reach(counting, shape=(60,), classes=3, max_rows=256, **options)


def test_climbs_reach_rows_that_the_victim_is_sure_of_and_all_are_billed():
    oracle, record = reached()
    attack = Synthesis(rows=30, k_max=16, k_min=2, confidence=0.8, abreast=16)
    pool = attack.synthesise(oracle, RNG(0))
    probs = counting(pool.x)
    assert np.bincount(pool.y).tolist() == [10, 10, 10]
    assert (probs.argmax(axis=1) == pool.y).all() and (probs.max(axis=1) > 0.8).all()
    assert set(np.unique(pool.x)) == {0.0, 1.0}
    assert oracle.spent == len(record.rows) > 30
    assert max(map(len, record.batches)) == 16
    again = attack.synthesise(reached()[0], RNG(0))
    assert np.array_equal(again.x, pool.x)


def test_climbs_are_better_than_random_rows():
    random = counting(RNG(0).integers(2, size=(2000, 60)).astype(np.float32)).max(axis=1)
    oracle, _ = reached()
    pool = Synthesis(rows=30, k_max=16, k_min=2, confidence=0.95, abreast=16).synthesise(oracle, RNG(0))
    assert len(pool) / oracle.spent > 2 * (random > 0.95).mean()


def test_a_climb_is_given_up_and_a_budget_ends_all():
    oracle, _ = reached()
    pool = Synthesis(rows=6, confidence=0.9999999, steps=7, abreast=6, k_max=8).synthesise(oracle, RNG(0))
    assert len(pool) == 0 and oracle.spent == 6 * 7
    oracle, _ = reached(budget=20)
    Synthesis(rows=6, confidence=0.9999999, abreast=6, k_max=8).synthesise(oracle, RNG(0))
    assert oracle.spent == 20 and oracle.ended is not None


def test_uniform_rows_lie_in_the_range():
    oracle, record = reached()
    Synthesis(rows=3, binary=False, confidence=0.3, k_max=30).synthesise(oracle, RNG(0))
    assert len(np.unique(record.rows)) > 100 and record.rows.min() >= 0 and record.rows.max() <= 1


def test_labels_alone_are_not_enough():
    oracle, record = reached(tells_probs=False)
    with pytest.raises(NotApplicable):
        Synthesis().synthesise(oracle, RNG(0))
    assert not record.batches


def test_marginals_keep_the_means_and_nothing_else():
    x = np.repeat(RNG(0).integers(2, size=(500, 1)), 8, axis=1).astype(np.float32)
    drawn = from_marginals(Pool(x), 4000, RNG(1))
    assert np.allclose(drawn.mean(axis=0), x.mean(axis=0), atol=0.05)
    assert abs(np.corrcoef(drawn.T)[0, 1]) < 0.1


def test_as_many_features_are_flipped_in_each_row():
    x = RNG(0).integers(2, size=(50, 20)).astype(np.float32)
    noisy = flipped(Pool(x, np.zeros(50, np.int64)), 0.1, RNG(1))
    assert (np.abs(noisy.x - x).sum(axis=1) == 2).all()


@pytest.mark.parametrize("wrong", [{"rows": 0}, {"k_max": 2, "k_min": 4}, {"confidence": 1.0}])
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(BadInput):
        Synthesis(**wrong)
