"""The test as its authors ran it: what their rows are, what they do to p, and the walks by gradients."""

import numpy as np
import pytest
import torch

from owner.dataset_inference.as_published import ROWS, infer, mixed_rows
from owner.dataset_inference.min_gd import min_gd
from zoo.families.logistic import Softmax
from zoo.network import Network


def test_a_published_row_has_one_feature_of_thirty_images():
    images, feature = np.arange(60.0)[:, None, None], np.arange(30.0).reshape(3, 10).T
    of_image = mixed_rows(np.broadcast_to(images, (60, 10, 3)))
    of_feature = mixed_rows(np.broadcast_to(feature, (60, 10, 3)))
    assert of_image.shape == (60, 30)
    np.testing.assert_array_equal(of_image, np.tile(np.arange(60.0).reshape(2, 30), (30, 1)))
    np.testing.assert_array_equal(of_feature, np.arange(30.0).repeat(2)[:, None].repeat(30, 1))


def side(rng, shift, n=300):
    """Features that mostly belong to the image: ten starts and three noises see the same distance to a border."""
    return shift + np.sqrt(0.9) * rng.normal(size=(n, 1, 1)) + np.sqrt(0.1) * rng.normal(size=(n, 10, 3))


def test_mixed_rows_make_an_effect_look_stronger_than_its_images_allow():
    rng = np.random.default_rng(0)
    victim = side(rng, 0.6), side(rng, 0.0)
    found = {
        name: infer(victim, {"itself": victim}, to_rows, np.random.default_rng(1))["itself"]
        for name, to_rows in ROWS.items()
    }
    published, correct = found["as published"], found["one image a row"]
    assert published.delta_mu > 2 * correct.delta_mu > 0
    assert published.p_harmonic < 1e-10 < 1e-4 < correct.p_harmonic
    assert (np.array(published.p_draws) < 0.01).mean() > 0.9
    assert (np.array(correct.p_draws) < 0.01).mean() < 0.3
    assert len(published.p_draws) == 100
    assert published.p_harmonic == pytest.approx(100 / sum(1 / p for p in published.p_draws))


@pytest.mark.slow
def test_mixed_rows_accuse_models_that_only_find_these_images_harder_by_chance():
    accused = dict.fromkeys(ROWS, 0)
    for seed in range(20):
        rng = np.random.default_rng([2, seed])
        victim, independent = (side(rng, 0.6), side(rng, 0.0)), (side(rng, 0.0), side(rng, 0.0))
        for name, to_rows in ROWS.items():
            accused[name] += infer(victim, {"other": independent}, to_rows, rng)["other"].p < 0.01
    assert accused["as published"] >= 5 and accused["one image a row"] <= 2


@pytest.fixture
def linear():
    network = Network.new(Softmax(), (1, 2, 2), ("a", "b"), seed=0)
    with torch.no_grad():
        network.module[-1].weight.copy_(torch.tensor([[1.0, -1.0, 2.0, 0.5], [0.0, 0.0, 0.0, 0.0]]))
        network.module[-1].bias.copy_(torch.tensor([-0.9, 0.0]))
    return network


def test_walks_by_gradients_measure_the_distance_to_a_class(linear):
    x = np.array([[0.5, 0.5, 0.5, 0.5], [0.4, 0.45, 0.5, 0.55]], np.float32).reshape(2, 1, 2, 2)
    w = np.array([1.0, -1.0, 2.0, 0.5])
    margin = np.abs(x.reshape(2, 4) @ w - 0.9)
    distances = min_gd(linear, x)
    assert distances.shape == (2, 2, 3)
    np.testing.assert_array_equal(distances[:, 0], 0)  # of the class that the model says anyway
    for norm, (dual, step) in enumerate(((1, 0.001), (2, 0.01))):
        shortest = margin / np.linalg.norm(w, dual)
        assert (distances[:, 1, norm] >= shortest - 1e-5).all()
        assert (distances[:, 1, norm] <= shortest + step + 1e-5).all()
    # In the L1 norm, all coordinates that can move take equal steps, as there are fewer than 100.
    shortest = 4 * margin / np.abs(w).sum()
    assert (np.abs(distances[:, 1, 2] - shortest) <= 1).all()


def test_a_walk_stays_in_the_box_and_ends(linear):
    x = np.full((1, 1, 2, 2), 1.0, np.float32)
    linear.module[-1].bias.data[1] = 100.0  # class a is out of reach
    distances = min_gd(linear, x, most_steps=20)
    assert (distances <= np.array([1, 2, 4])).all() and (distances[0, 1, :2] > 0).all()
    assert distances[0, 1, 2] == 0  # values at 1 stay there in the L1 norm
