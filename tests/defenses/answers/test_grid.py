"""The grid to which rows are rounded before anything is keyed by them."""

import numpy as np
import pytest
from sites import ask, bound

from defenses import GaussianNoise, LabelFlips, LaplaceNoise
from defenses.answers.grid import ANY, Grid
from defenses.answers.row_noise import row_noise
from defenses.reactions.reaction import shuffled
from wire import Answer, BadInput, Card

UNIT = Grid(0.0, 1.0)
PIXELS = np.random.default_rng(0).integers(0, 256, (20, 1, 8, 8)).astype(np.uint8)
IMAGES = PIXELS.astype(np.float32) / np.float32(255)


def copies(row, n=256, size=1e-45):
    """Rows that no model distinguishes, each with other bits."""
    x = np.repeat(row[None], n, axis=0)
    x.reshape(n, -1)[:, 0] += np.arange(n, dtype=np.float32) * np.float32(size)
    return x


@pytest.mark.parametrize("grid", [UNIT, ANY])
@pytest.mark.parametrize("size", [1e-45, 1e-40, 1e-12])
def test_copies_of_a_picture_have_one_point(grid, size):
    row = np.zeros((1, 8, 8), np.float32)
    assert len(np.unique(copies(row, size=size).reshape(256, -1), axis=0)) == 256
    assert len(np.unique(grid.points(copies(row, size=size)), axis=0)) == 1


def test_a_picture_is_its_own_point_in_every_encoding():
    expected = PIXELS.reshape(20, -1)
    np.testing.assert_array_equal(UNIT.points(IMAGES), expected)
    np.testing.assert_array_equal(Grid(0.0, 255.0).points(PIXELS), expected)
    np.testing.assert_array_equal(Grid(-1.0, 1.0).points(IMAGES * 2 - 1), expected)
    near = IMAGES + np.float32(0.0015) * np.random.default_rng(1).choice([-1, 1], IMAGES.shape)
    np.testing.assert_array_equal(UNIT.points(near.astype(np.float32).clip(0, 1)), expected)
    assert (UNIT.points(IMAGES + np.float32(0.0025)) != expected).any()


def test_numbers_without_a_range_keep_twelve_bits():
    x = np.float32([[1, 1 + 2**-13, 1 + 2**-11, -1, 3e38, np.inf, np.nan, 2**-25, -0.0, 1e-45, 2047, 4095]])
    told = ANY.points(x).view(np.float32)[0]
    expected = [1, 1, 1 + 2**-11, -1, 3e38, np.inf, np.nan, 0, 0, 0, 2047, 4095]
    np.testing.assert_allclose(told, np.float32(expected), rtol=2**-12)
    assert told[0] == told[1] and not np.signbit(told[8])
    nan = np.uint32([[0x7FC00000], [0xFFC01234], [0x7F800001], [0xFFFFFFFF]]).view(np.float32)
    assert len(np.unique(ANY.points(nan), axis=0)) == 1


def test_a_row_s_point_does_not_depend_on_its_company():
    x = np.random.default_rng(2).random((64, 784), np.float32)
    for grid in (UNIT, ANY):
        alone = np.concatenate([grid.points(row[None]) for row in x])
        np.testing.assert_array_equal(grid.points(x), alone)


def test_a_card_gives_the_grid_and_a_name_gives_it_again():
    assert Grid.of(Card("m", (4,), 5)) == UNIT
    assert (
        Grid.of(Card("m", (4,), 5, low=None, high=None)) == Grid.of(Card("m", (4,), 5, low=1.0, high=1.0)) == ANY
    )
    for grid in (UNIT, ANY, Grid(-1.5, 0.1)):
        assert Grid.parse(grid.name) == grid
    for name in ("", "1", "one two", "1 1", "0 inf", "0 nan", "2 1"):
        with pytest.raises(BadInput, match="there is no grid"):
            Grid.parse(name)


@pytest.mark.parametrize("layer", [GaussianNoise(0.05), LaplaceNoise(0.05), LabelFlips(0.5)], ids=str)
async def test_copies_of_a_picture_get_one_noise(layer):
    x = copies(np.zeros(4, np.float32))
    probs = np.tile(np.float32([0.3, 0.25, 0.2, 0.15, 0.1]), (256, 1))
    told = await ask(bound(layer), x, probs)
    assert len(np.unique(told.probs, axis=0)) == 1 and len(np.unique(told.labels)) == 1
    other = await ask(bound(layer), np.random.default_rng(0).random((256, 4), np.float32), probs)
    assert len(np.unique(other.probs, axis=0)) > 4


def test_copies_of_a_picture_are_shuffled_alike():
    x = copies(np.zeros(4, np.float32))
    answer = Answer(np.zeros(256, np.int64), np.tile(np.float32([0.5, 0.3, 0.2]), (256, 1)))
    assert len(np.unique(shuffled(b"k", x, answer, 3, UNIT).probs, axis=0)) == 1


def test_integers_and_texts_are_their_own_points():
    assert len(np.unique(row_noise(b"k", np.arange(300)[:, None], 1))) == 300
    assert len(np.unique(row_noise(b"k", np.array(["a", "b", "a"], object), 1))) == 2
