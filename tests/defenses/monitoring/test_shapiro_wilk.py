import warnings

import numpy as np
import pytest
import scipy.stats

from defenses.monitoring.shapiro_wilk import lower_bounds, statistic, weights

SAMPLES = {
    "normal": lambda rng, n: rng.normal(size=n),
    "exponential": lambda rng, n: rng.exponential(size=n),
    "heavy ties": lambda rng, n: rng.integers(0, 3, n).astype(float),
    "tiny variance": lambda rng, n: 5 + 1e-9 * rng.normal(size=n),
    "outlier": lambda rng, n: np.append(rng.normal(size=n - 1), 1e6),
}


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES)
@pytest.mark.parametrize("n", [*range(3, 40), 99, 100, 101, 500, 1000, 2001, 4999, 5000, 5001, 20_000])
def test_it_is_scipys_statistic(n, sample):
    x = np.sort(sample(np.random.default_rng(n), n))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of p-values above 5,000, and of ranges of 0
        expected = scipy.stats.shapiro(x).statistic
    assert statistic(x) == pytest.approx(expected, abs=1e-8)


def test_a_constant_sample_passes():
    assert statistic(np.full(7, 3.25)) == 1


def test_weights_change_with_the_size_as_the_bound_needs():
    """Expected order statistics and, slowly, their scale increase; slowly the two outer weights decrease."""
    before = None
    for n in [*range(32, 1500), *range(1500, 60_000, 331)]:
        half, scale = weights.__wrapped__(n)
        assert (np.diff(half) <= 0).all() and half[-1] >= 0
        expected, outer = half[2:] * scale, half[:2]
        if before is not None:
            size, expected_before, outer_before, scale_before = before
            assert (expected[: len(expected_before)] >= expected_before).all()
            assert (outer <= outer_before).all() and (outer * n**0.5 >= outer_before * size**0.5).all()
            assert scale >= scale_before and scale**2 <= scale_before**2 + 1.001 * (n - size)
        before = n, expected, outer, scale


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES)
def test_no_choice_of_doubtful_values_falls_under_the_bound(sample):
    rng = np.random.default_rng(0)
    useful = 0
    for n in (31, 32, 50, 101, 300, 511, 513, 2000, 6000):
        for doubt in (0, 1, 3, n // 50, n // 10):
            core = np.sort(sample(rng, n))
            values = sample(rng, doubt + 2)[2:]
            doubtful, more = values[: doubt // 2], values[doubt // 2 :]
            bounds = lower_bounds(core, doubtful, more)
            assert len(bounds) == len(more) + 1
            useful += bounds[-1] > 0.9 * statistic(core)
            for t in {0, len(more) // 2, len(more)}:
                some = [values[: doubt // 2 + t][rng.random(doubt // 2 + t) < p] for p in (0, 0.5, 0.5, 1)]
                for chosen in (*some, some[-1][some[-1] > 0]):
                    assert statistic(np.sort(np.concatenate([core, chosen]))) >= bounds[t]
    assert useful >= 5
