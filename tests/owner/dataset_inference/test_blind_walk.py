import numpy as np
import pytest

from owner.dataset_inference.blind_walk import NORMS, blind_walk, box, directions
from wire import Answer, Card, Oracle

OPEN = Card("m", (4,), 3, low=None, high=None, max_rows=7)
ORDERS = list(NORMS.values())


def linear(weights, bias, card=OPEN, seen=None, probs=False):
    """An oracle over argmax(x W + b); `seen` collects the rows of every request."""

    def transport(x):
        if seen is not None:
            seen.append(x.copy())
        logits = x.reshape(len(x), -1) @ weights + bias
        return Answer(logits.argmax(1), np.full_like(logits, 1 / 3) if probs else None)

    return Oracle(transport, card)


def test_steps_follow_from_the_margin():
    rng = np.random.default_rng(0)
    w, c = rng.normal(size=4), 1.5
    oracle = linear(np.stack([np.zeros(4), w], 1), np.array([c, 0.0]))  # label 1 where w x > c
    x = rng.normal(size=(20, 4)).astype(np.float32)
    x -= ((x @ w - rng.uniform(0.3, 1.4, 20)) / (w @ w))[:, None].astype(np.float32) * w.astype(np.float32)
    delta = rng.normal(0, 0.05, (20, 3, 3, 4)).astype(np.float32)

    walked = blind_walk(oracle, x, np.zeros(20, np.int64), delta, 30)

    margin, speed = (c - x @ w)[:, None, None], delta @ w
    k = np.where(speed > 0, np.ceil(margin / speed), 31)
    k = np.where(k > 30, 31, k)
    norms = np.stack([np.linalg.norm(delta[:, :, i], o, axis=-1) for i, o in enumerate(ORDERS)], -1)
    np.testing.assert_allclose(walked, k * norms, rtol=1e-4)
    assert len(np.unique(k)) > 15  # of all kinds
    assert oracle.spent == np.minimum(k, 30).sum()  # a walk that has ended is not asked about again


def test_an_image_that_is_wrong_anyway_has_walked_one_step():
    delta = directions((2, 5, 4), 0.005, 0.005, 0.01, np.random.default_rng(0))
    oracle = linear(np.zeros((4, 3)), np.array([0.0, 1.0, 0.0]))
    walked = blind_walk(oracle, np.zeros((2, 4), np.float32), np.array([0, 2]), delta, 50)
    for i, order in enumerate(ORDERS):
        np.testing.assert_allclose(walked[:, :, i], np.linalg.norm(delta[:, :, i], order, axis=-1), rtol=1e-5)
    assert oracle.spent == 2 * 5 * 3


def test_a_walk_that_never_leaves_its_label_has_one_step_more_than_were_asked():
    delta = directions((2, 5, 4), 0.005, 0.005, 0.01, np.random.default_rng(0))
    oracle = linear(np.zeros((4, 3)), np.array([0.0, 1.0, 0.0]))
    walked = blind_walk(oracle, np.zeros((2, 4), np.float32), np.array([1, 1]), delta, 6)
    for i, order in enumerate(ORDERS):
        expected = 7 * np.linalg.norm(delta[:, :, i], order, axis=-1)
        np.testing.assert_allclose(walked[:, :, i], expected, rtol=1e-5)
    assert oracle.spent == 2 * 5 * 3 * 6


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-1.0, 2.0)])
def test_walks_stay_in_the_box_and_only_what_lies_in_it_is_measured(low, high):
    seen = []
    oracle = linear(np.zeros((4, 3)), np.array([0.0, 1.0, 0.0]), Card("m", (4,), 3, low=low, high=high), seen)
    x = np.tile(np.array([low, low + 0.1, high - 0.1, high], np.float32), (1, 1))
    delta = np.tile(np.array([0.06, -0.06, 0.06, -0.06], np.float32), (1, 1, 3, 1))
    walked = blind_walk(oracle, x, np.array([1]), delta, 4)
    rows = np.concatenate(seen)
    assert rows.min() == low and rows.max() == high
    np.testing.assert_allclose(walked[0, 0], [0.3, np.sqrt(0.3**2 * 2 + 0.1**2 * 2), 0.8], rtol=1e-4)


def test_lockstep_walks_as_one_by_one():
    rng = np.random.default_rng(3)
    weights, bias = rng.normal(size=(4, 3)), rng.normal(size=3) / 4
    x, y = rng.normal(size=(12, 4)).astype(np.float32), rng.integers(0, 3, 12)
    delta = directions((12, 4, 4), 0.3, 0.2, 0.2, rng)
    together = linear(weights, bias)
    walked = blind_walk(together, x, y, delta, 25)
    apart = linear(weights, bias)
    for image in range(12):
        for start in range(4):
            one = blind_walk(
                apart, x[image : image + 1], y[image : image + 1], delta[image : image + 1, start : start + 1], 25
            )
            np.testing.assert_allclose(one[0, 0], walked[image, start], rtol=1e-6)
    assert together.spent == apart.spent
    assert together.requests < apart.requests / 3


def test_labels_are_all_that_is_read():
    rng = np.random.default_rng(4)
    weights, x, y = rng.normal(size=(4, 3)), rng.normal(size=(9, 4)).astype(np.float32), rng.integers(0, 3, 9)
    delta = directions((9, 2, 4), 0.3, 0.2, 0.2, rng)
    told = [blind_walk(linear(weights, np.zeros(3), probs=p), x, y, delta, 10) for p in (True, False)]
    np.testing.assert_array_equal(*told)


def test_rows_have_the_shape_and_type_of_the_card():
    seen = []
    oracle = linear(np.zeros((4, 3)), np.zeros(3), Card("m", (1, 2, 2), 3), seen)
    x = np.full((3, 1, 2, 2), 0.5, np.float32)
    blind_walk(oracle, x, np.zeros(3, np.int64), directions((3, 2, 4), 0.1, 0.1, 0.1, np.random.default_rng(0)), 2)
    assert all(rows.shape[1:] == (1, 2, 2) and rows.dtype == np.float32 for rows in seen)


def test_directions_have_the_noises_of_the_paper():
    delta = directions((40, 10, 50), 0.005, 0.004, 0.01, np.random.default_rng(0))
    assert delta.shape == (40, 10, 3, 50) and delta.dtype == np.float32
    uniform, gaussian, laplace = (delta[:, :, i] for i in range(3))
    assert np.abs(uniform).max() == pytest.approx(0.005, rel=1e-3)
    assert uniform.std() == pytest.approx(0.005 / np.sqrt(3), rel=0.02)
    assert gaussian.std() == pytest.approx(0.004, rel=0.02)
    assert np.abs(laplace).mean() == pytest.approx(0.01, rel=0.02)
    assert list(NORMS.items()) == [("uniform", np.inf), ("gaussian", 2), ("laplace", 1)]


@pytest.mark.parametrize(
    ("low", "high", "unit"), [(0.0, 1.0, 1.0), (-1.0, 1.0, 2.0), (0.0, 255.0, 255.0), (0.0, None, 1.0)]
)
def test_the_unit_of_the_noise_is_the_cards_range(low, high, unit):
    assert box(Card("m", (4,), 3, low=low, high=high))[2] == unit
