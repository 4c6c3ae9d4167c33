"""Distances to nearest rows, against the sums of squared differences."""

import numpy as np
import pytest

from defenses.monitoring import nearest as module
from defenses.monitoring.nearest import Kept, Rows, float_squares, floats, nearest, pixel_squares, pixels


def test_nearly_equal_rows_have_exact_distances():
    """Squared norms of about 3e5 cancel in float32 long before a difference of 1e-3 shows."""
    rng = np.random.default_rng(0)
    x = 20 + rng.random((200, 784), np.float32)
    x[100:] = x[:100] + np.float32(1e-3) * rng.random((100, 784), np.float32)
    old, new = Rows.of(x[:100]), Rows.of(x[100:])
    squares = ((x[100:, None].astype(np.float64) - x[None, :100]) ** 2).sum(axis=2)
    exact = squares.min(axis=1)
    np.testing.assert_array_equal(nearest(new, old), exact)
    np.testing.assert_array_equal(nearest(old, old), 0)
    some = float_squares(new, old, np.median(squares, axis=1))
    near = squares <= np.median(squares, axis=1)[:, None]
    np.testing.assert_array_equal(some[near], squares[near])
    np.testing.assert_array_equal(nearest(new, old.at(slice(0))), np.inf)


@pytest.mark.parametrize("scale", [1e-22, 1, 1e18, 1e38])
def test_rows_of_any_scale_have_exact_distances(scale):
    x = np.float32(scale) * np.random.default_rng(0).random((40, 9), np.float32)
    squares = ((x[:30, None].astype(np.float64) - x[30:]) ** 2).sum(axis=2)
    np.testing.assert_allclose(nearest(Rows.of(x[:30]), Rows.of(x[30:])), squares.min(axis=1), rtol=1e-14)


@pytest.mark.parametrize("d", [1, 2, 3, 784, 3072, 1 << 15, (1 << 15) + 1, 80_000])
def test_pixels_have_exact_distances(d, monkeypatch):
    rng = np.random.default_rng(d)
    octets = rng.choice(np.uint8([0, 1, 127, 128, 254, 255]), (12, d))
    octets[0], octets[1] = 0, 255  # as far apart as rows can be
    same, values = pixels(octets / np.float32(255))
    assert same.all()
    exact = ((octets[:, None].astype(np.int64) - octets) ** 2).sum(axis=2)
    x = Rows.of(values)
    for is_exact in (module._int8_is_exact(), False):  # the second is for processors that lack the instructions
        monkeypatch.setattr(module, "_int8_is_exact", lambda is_exact=is_exact: is_exact)
        np.testing.assert_array_equal(pixel_squares(x, x), exact)
        np.testing.assert_array_equal(nearest(x, x.at(slice(5, 6))), exact[:, 5] / 255**2)


def test_only_255ths_in_float32_are_pixels():
    row = np.arange(256, dtype=np.float32)[None] / np.float32(255)
    same, values = pixels(row)
    assert same.tolist() == [True]
    np.testing.assert_array_equal(floats(values), row)
    np.testing.assert_array_equal(pixels(np.arange(256, dtype=np.uint8)[None])[1], values)
    for wrong in (np.nextafter(row[:, 7:8], np.float32(1)), [[-1 / 255]], [[256 / 255]], [[np.nan]], [[np.inf]]):
        assert pixels(np.float32(wrong))[0].tolist() == [False]


@pytest.mark.parametrize("dtype", [np.int8, np.float32])
def test_what_is_kept_does_not_depend_on_calls_and_little_is_spare(dtype):
    x = Rows.of(np.random.default_rng(0).integers(-128, 128, (1000, 9)).astype(dtype))
    whole, single = Kept.like(x), Kept.like(x)
    whole.append(x)
    for i in range(len(x.values)):
        single.append(x.at(slice(i, i + 1)))
        assert single.count == i + 1 and single.nbytes <= (17 / 16) * (i + 1) * (9 * x.values.itemsize + 8) + 99
    for kept in (whole, single):
        kept.drop(300)
    once = Kept.like(x)
    once.append(x.at(slice(300, 1000)))
    for kept in (whole, single):
        np.testing.assert_array_equal(kept.values, once.values)
        np.testing.assert_array_equal(kept.norms, once.norms)
    np.testing.assert_array_equal(once.rows.values, x.values[300:])
