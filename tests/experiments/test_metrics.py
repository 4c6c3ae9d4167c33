import numpy as np
import pytest

from experiments import metrics
from zoo.exact_interval import exact_interval


def test_agreement_is_the_share_of_equal_labels():
    assert metrics.agreement(np.array([0, 1, 2, 2]), np.array([0, 1, 2, 0])) == exact_interval(3, 4)


SCORES = np.array([3.0, 2.0, 2.0, 1.0])
MEMBER = np.array([True, True, False, False])


def test_ties_count_half_in_the_area():
    assert metrics.auc(SCORES, MEMBER) == pytest.approx(3.5 / 4)
    assert metrics.auc(np.zeros(4), MEMBER) == pytest.approx(0.5)
    assert metrics.auc(-SCORES, MEMBER) == pytest.approx(0.5 / 4)


def test_rows_of_equal_score_are_accused_together():
    false, true = metrics.roc(SCORES, MEMBER)
    np.testing.assert_allclose(false, [0, 0, 0.5, 1])
    np.testing.assert_allclose(true, [0, 0.5, 1, 1])


def test_a_score_of_two_values_has_one_point_between_the_corners():
    false, true = metrics.roc(np.array([1, 0, 1, 0, 0]), np.array([True, True, False, False, False]))
    np.testing.assert_allclose(false, [0, 1 / 3, 1])
    np.testing.assert_allclose(true, [0, 1 / 2, 1])


def test_the_error_of_an_area_is_that_of_hanley_and_mcneil():
    assert metrics.auc_error(0.5, 10, 10) == pytest.approx(np.sqrt((0.25 + 9 / 12 + 9 / 12) / 100))
    assert metrics.auc_error(1.0, 10, 20) == 0


def test_the_error_of_an_area_is_the_spread_of_areas_where_its_assumption_holds():
    # Exponential scores, for which the formula is exact: a member's mean is 3, another's 1, and the area 3/4.
    members, others = 12, 40
    rng = np.random.default_rng(0)
    above = rng.exponential(3, (4000, members, 1)) > rng.exponential(1, (4000, 1, others))
    areas = above.mean(axis=(1, 2))
    assert areas.mean() == pytest.approx(0.75, abs=0.01)
    assert areas.std() == pytest.approx(metrics.auc_error(0.75, members, others), rel=0.05)
    assert areas.std() != pytest.approx(metrics.auc_error(0.75, others, members), rel=0.05)


def test_balanced_accuracy_is_the_best_of_all_thresholds():
    assert metrics.balanced_accuracy(SCORES, MEMBER) == pytest.approx(0.75)
    assert metrics.balanced_accuracy(-SCORES, MEMBER) == pytest.approx(0.5)  # accusing nobody is a threshold


def test_tpr_is_taken_at_no_more_false_positives_than_allowed():
    others = np.arange(100.0)  # the highest is 99, the second 98
    members = np.array([99.5, 98.5, 97.5, 96.5])
    scores, member = np.r_[members, others], np.arange(104) < 4
    assert metrics.tpr_at(scores, member, 0.001) == exact_interval(1, 4)
    assert metrics.tpr_at(scores, member, 0.0099) == exact_interval(1, 4)
    assert metrics.tpr_at(scores, member, 0.01) == exact_interval(2, 4)
    assert metrics.tpr_at(scores, member, 1.0) == exact_interval(4, 4)


def test_tpr_is_nothing_where_ties_leave_no_threshold():
    assert metrics.tpr_at(np.ones(20), np.arange(20) < 10, 0.1) == exact_interval(0, 10)


def test_top_agreement_looks_among_the_most_probable_classes():
    probs = np.array([[0.1, 0.2, 0.7], [0.5, 0.3, 0.2], [0.1, 0.8, 0.1]])
    labels = np.array([1, 2, 1])
    assert metrics.top_agreement(labels, probs, 1) == exact_interval(1, 3)
    assert metrics.top_agreement(labels, probs, 2) == exact_interval(2, 3)
    assert metrics.top_agreement(labels, probs) == exact_interval(3, 3)


def test_total_variation_is_the_mass_that_must_move():
    probs, others = np.array([[1, 0], [0.5, 0.5]]), np.array([[0, 1], [0.25, 0.75]])
    assert metrics.total_variation(probs, others) == pytest.approx((1 + 0.25) / 2)
    assert metrics.total_variation(probs, probs) == 0


def test_targeted_transfer_counts_the_wanted_class_alone():
    before, after = np.array([0, 1, 2, 0]), np.array([1, 1, 0, 2])
    assert metrics.transfer(before, after) == exact_interval(3, 4)
    assert metrics.transfer(before, after, np.array([1, 0, 1, 1])) == exact_interval(1, 4)
