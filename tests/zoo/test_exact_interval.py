import pytest
from scipy.stats import binomtest

from zoo.exact_interval import exact_interval


@pytest.mark.parametrize(
    ("hits", "trials", "low", "high"),
    [
        (0, 3, 0.0, 1 - 0.025 ** (1 / 3)),
        (3, 3, 0.025 ** (1 / 3), 1.0),
        (5, 10, 0.187086, 0.812914),
        (1, 1, 0.025, 1.0),
    ],
)
def test_the_interval_is_that_of_clopper_and_pearson(hits, trials, low, high):
    assert exact_interval(hits, trials) == pytest.approx((hits / trials, low, high), abs=1e-6)


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.98, 0.999])
def test_it_is_scipys(confidence):
    for trials in (1, 2, 17, 1000):
        for hits in {0, 1, trials // 3, trials - 1, trials}:
            theirs = binomtest(hits, trials).proportion_ci(confidence, method="exact")
            ours = exact_interval(hits, trials, confidence)
            assert ours == pytest.approx((hits / trials, theirs.low, theirs.high), rel=1e-9)


@pytest.mark.parametrize(
    ("hits", "trials", "confidence"), [(0, 0, 0.95), (-1, 3, 0.95), (4, 3, 0.95), (1, 3, 1.0)]
)
def test_what_is_no_rate_is_refused(hits, trials, confidence):
    with pytest.raises(ValueError, match="expected at least one trial"):
        exact_interval(hits, trials, confidence)
