import numpy as np
import pytest
import torch

from owner.dataset_inference.ownership_tester import fit_regressor, rows, standardiser, welch


def test_a_row_holds_the_features_of_one_image():
    features = np.broadcast_to(np.arange(50.0)[:, None, None], (50, 10, 3))  # every value names its image
    table = rows(features)
    assert table.shape == (50, 30)
    np.testing.assert_array_equal(table, np.arange(50.0)[:, None].repeat(30, 1))


def test_features_are_standardised_noise_by_noise():
    rng = np.random.default_rng(0)
    private = rng.normal([3.0, 50.0, 0.1], [1.0, 9.0, 0.01], (200, 4, 3))
    standard = standardiser(private)
    np.testing.assert_allclose(standard(private).mean((0, 1)), 0, atol=1e-9)
    np.testing.assert_allclose(standard(private).std((0, 1)), 1)
    other = standard(private + private.std((0, 1)))  # by the private side's mean, not its own
    np.testing.assert_allclose(other.mean((0, 1)), 1)


def test_the_regressor_separates_planted_features():
    rng = np.random.default_rng(1)
    private, unseen = rng.normal(0.7, 1, (200, 6)), rng.normal(-0.7, 1, (200, 6))
    score = fit_regressor(private, unseen, 20, 300, 0.1, rng)
    fresh_private, fresh_unseen = score(rng.normal(0.7, 1, (300, 6))), score(rng.normal(-0.7, 1, (300, 6)))
    assert (fresh_private < 0).mean() > 0.9 and (fresh_unseen > 0).mean() > 0.9
    assert np.abs(fresh_private).max() <= 1


def test_the_regressor_depends_on_its_generator_alone():
    rng = np.random.default_rng(1)
    private, unseen, asked = (rng.normal(size=(30, 6)) for _ in range(3))
    before = torch.random.get_rng_state()
    once, again, other = (
        fit_regressor(private, unseen, 20, 30, 0.1, np.random.default_rng(seed))(asked) for seed in (5, 5, 6)
    )
    np.testing.assert_array_equal(once, again)
    assert np.abs(once - other).max() > 1e-3
    assert torch.equal(before, torch.random.get_rng_state())


def test_welch_asks_whether_unseen_images_score_higher():
    rng = np.random.default_rng(2)
    low, high = rng.normal(-0.3, 0.2, 30), rng.normal(0.1, 0.5, 40)
    found, turned = welch(low, high), welch(high, low)
    error = np.sqrt(low.var(ddof=1) / 30 + high.var(ddof=1) / 40)
    assert found.delta_mu == pytest.approx(high.mean() - low.mean())
    assert found.statistic == pytest.approx(found.delta_mu / error)
    assert found.p_value < 1e-3 and turned.p_value == pytest.approx(1 - found.p_value)
    assert 40 < found.degrees_of_freedom < 68
    assert found.interval[0] < found.delta_mu < found.interval[1]
    assert sum(found.interval) / 2 == pytest.approx(found.delta_mu)
    assert 3.9 < (found.interval[1] - found.interval[0]) / error < 4.1


def test_scores_that_are_all_alike_accuse_nobody():
    assert welch(np.ones(5), np.ones(7))[:4] == (0.0, 10.0, 1.0, 0.0)
