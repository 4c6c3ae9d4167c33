"""The null of membership experiments: it holds where candidates are alike, and fails where they are not."""

import numpy as np
import pytest

from attacker.membership.gap import Gap
from experiments import metrics
from experiments.null import NullFailed, blind, check
from wire import Answer, Array, Card, Oracle
from zoo.data.pool import Pool

RNG = np.random.default_rng
MEMBER = np.arange(1200) < 600


def test_scores_without_information_pass_and_others_do_not():
    rng = RNG(0)
    areas = check({f"noise {n}": rng.normal(size=1200) for n in range(20)}, MEMBER)
    assert len(areas) == 20 and all(0.4 < area < 0.6 for area in areas.values())
    with pytest.raises(NullFailed, match=r"leak: AUC 0\.\d+, which lies outside 0.5 ± 0.0"):
        check({"noise": rng.normal(size=1200), "leak": rng.normal(size=1200) + 0.5 * MEMBER}, MEMBER)


def test_what_was_not_scored_does_not_count():
    scores = np.where(MEMBER, np.nan, 0.5)
    scores[:300] = 0.5
    assert check({"half": scores}, MEMBER) == {"half": 0.5}


def test_the_bound_holds_for_all_tests_together():
    assert metrics.null_bound(1, 5000, 5000) == pytest.approx(1.96 * metrics.auc_error(0.5, 5000, 5000), rel=1e-3)
    rng = RNG(1)
    bound, failed = metrics.null_bound(10, 200, 200), 0
    for _ in range(100):
        scores = rng.normal(size=(10, 400))
        failed += any(abs(metrics.auc(of, np.arange(400) < 200) - 0.5) > bound for of in scores)
    assert failed <= 12  # of 5 expected


def doubled(seed: int, rows: int = 300) -> Array:
    """Returns images of which each is there twice, but for little noise, in random order."""
    rng = RNG(seed)
    once = rng.random((rows // 2, 1, 4, 4), dtype=np.float32)
    x = np.concatenate([once, once]) + rng.normal(0, 0.01, (rows, 1, 4, 4))
    return x[rng.permutation(rows)].astype(np.float32)


def test_a_fair_split_passes_as_often_as_it_should_even_with_near_duplicates():
    member, failed, areas = np.arange(300) < 150, 0, []
    for seed in range(60):
        scores = blind(doubled(seed), member, trees=10, seed=seed)
        assert np.isnan(scores).sum() == 150  # the half that the forest was fitted to
        try:
            areas.append(check({"blind": scores}, member)["blind"])
        except NullFailed:
            failed += 1
    assert failed <= 4  # of 0.6 expected
    assert np.std(areas) == pytest.approx(metrics.auc_error(0.5, 75, 75), rel=0.25)


def test_a_forest_finds_members_that_were_drawn_otherwise():
    x = RNG(0).random((1200, 1, 4, 4), dtype=np.float32)
    assert check({"blind": blind(x, MEMBER, trees=30)}, MEMBER)
    x[MEMBER, 0, 0, 0] *= 0.7
    with pytest.raises(NullFailed, match="blind"):
        check({"blind": blind(x, MEMBER, trees=30)}, MEMBER)


def test_members_that_are_easier_for_every_model_fail_the_null():
    """A planted bias: the model has seen no row, but the non-members are noisy."""
    rng = RNG(2)
    y = rng.integers(2, size=1200)
    x = (y[:, None] + rng.normal(0, np.where(MEMBER, 0.3, 1.5)[:, None], (1200, 1))).astype(np.float32)
    card = Card("null", (1,), 2, max_rows=2000)
    oracle = Oracle(lambda rows: Answer((rows[:, 0] > 0.5).astype(np.int64)), card)
    scores = Gap().infer(oracle, x, y, Pool(x[:0]), RNG(0))
    with pytest.raises(NullFailed, match="gap"):
        check({"gap": scores}, MEMBER)


def test_precision_and_recall_are_those_of_the_threshold():
    scores, member = np.array([0.9, 0.8, 0.7, 0.2, np.nan]), np.array([True, False, True, True, True])
    worth = metrics.membership(scores, member, 0.5)
    assert worth["precision"].rate == pytest.approx(2 / 3) and worth["recall"].rate == pytest.approx(2 / 3)
    assert metrics.membership(scores, member, 1.0)["precision"] is None
    assert "precision" not in metrics.membership(scores, member, np.nan)
    assert "0.0001" not in worth["tpr_at"]
    many = np.arange(metrics.MANY + 10) < 10
    assert metrics.membership(many.astype(float), many)["tpr_at"]["0.0001"].rate == 1
