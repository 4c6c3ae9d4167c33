import dataclasses

import numpy as np

from owner.twins.near_copies import COPIES, near_copies
from wire import Card

CARD = Card("m", (1, 6, 6), 2)


def test_copies_are_eight_near_images_of_each():
    x = np.random.default_rng(0).random((3, 1, 6, 6), np.float32)
    made = near_copies(x, CARD)
    assert made.shape == (3 * COPIES, 1, 6, 6) and made.dtype == np.float32
    assert made.min() >= 0 and made.max() <= 1
    of_second = made[COPIES : 2 * COPIES]
    np.testing.assert_array_equal(of_second[0], np.roll(x[1], 1, axis=1))
    np.testing.assert_array_equal(of_second[3], np.roll(x[1], -1, axis=2))
    np.testing.assert_allclose(of_second[4], np.clip(1.12 * x[1], 0, 1), rtol=1e-6)
    np.testing.assert_allclose(of_second[5], 0.88 * x[1], rtol=1e-6)
    assert not np.array_equal(of_second[6], of_second[7])


def test_noise_has_its_scale_and_depends_on_the_image_alone():
    x = np.full((2, 1, 40, 40), 0.5, np.float32)
    x[1] += 0.001
    made = near_copies(x, dataclasses.replace(CARD, input_shape=(1, 40, 40)))
    assert abs((made[6] - 0.5).std() - 0.04) < 0.003
    assert not np.array_equal(made[6] - 0.5, made[COPIES + 6] - 0.501)
    np.testing.assert_array_equal(made[COPIES:], near_copies(x[1:], CARD))


def test_noise_follows_the_width_of_the_range():
    x = np.full((1, 1, 40, 40), 128, np.float32)
    made = near_copies(x, Card("m", (1, 40, 40), 2, low=0.0, high=255.0))
    assert abs((made[6] - 128).std() - 0.04 * 255) < 1
    unbounded = near_copies(x, Card("m", (1, 40, 40), 2, low=None, high=None))
    assert abs((unbounded[6] - 128).std() - 0.04) < 0.01 and unbounded.max() > 140
