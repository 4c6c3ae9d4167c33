"""The statistics of a claim, against exact arithmetic."""

from fractions import Fraction
from math import comb, floor

import pytest
from scipy import stats

from defenses.watermarks.verification import chance_bound, marks_needed, tail

CHANCE = 2.0**-64
ERRORS = (0, 0.1, 0.25, 0.4, 0.5, 0.6, 0.7)
# Least number of marks for 2^-64 with p0 = 1/m: exact arithmetic.
NEEDED = {
    5: (28, 36, 59, 107, 185, 393, 1457),
    10: (20, 24, 35, 56, 81, 133, 267),
    43: (12, 14, 18, 26, 35, 48, 77),
    100: (10, 12, 14, 19, 25, 36, 51),
    200: (9, 9, 13, 17, 21, 28, 41),
    256: (9, 9, 11, 16, 21, 26, 37),
    1000: (7, 7, 9, 12, 15, 18, 27),
}


def exact(marks, error, p0):
    """The tail in rational numbers."""
    error, p0 = Fraction(str(error)), Fraction(str(p0))
    most = floor(error * marks)
    return sum(comb(marks, i) * (1 - p0) ** i * p0 ** (marks - i) for i in range(most + 1))


@pytest.mark.parametrize("classes", NEEDED)
def test_the_table_of_needed_marks(classes):
    assert tuple(marks_needed(error, 1 / classes, CHANCE) for error in ERRORS) == NEEDED[classes]


@pytest.mark.parametrize("p0", [0.001, 0.1, 0.25, 0.4])
@pytest.mark.parametrize("error", [0, 0.1, 0.29, 0.5, 0.7])
@pytest.mark.parametrize("marks", [1, 13, 81, 82, 100, 400])
def test_the_tail_is_exact(marks, error, p0):
    assert tail(marks, error, p0) == pytest.approx(float(exact(marks, error, p0)), rel=1e-9)


def test_more_marks_may_be_fewer_than_enough():
    assert [n for n in range(78, 90) if tail(n, 0.5, 0.1) >= CHANCE] == [78, 79, 80, 82]
    assert [n for n in range(262, 280) if tail(n, 0.7, 0.1) >= CHANCE] == [262, 263, 264, 265, 266, 270]
    assert marks_needed(0.5, 0.1, CHANCE, least=82) == 83
    assert [marks_needed(0.5, p0, CHANCE) for p0 in (0.2, 0.3, 0.4)] == [185, 473, 2021]


def test_no_number_of_marks_suffices_where_independent_models_agree_as_often():
    assert marks_needed(0.5, 0.5, CHANCE) is None and marks_needed(0.5, 0.4999, CHANCE) is None
    assert marks_needed(0.5, 0.49, CHANCE) > 10_000


def test_thirteen_of_thirteen_are_short_of_the_papers_confidence():
    assert tail(13, 0, 0.1) == pytest.approx(1e-13) and tail(13, 0, 0.1) > CHANCE
    assert marks_needed(0, 0.1, CHANCE, least=13) == 20


def test_the_chance_bound_is_the_worst_models_and_never_below_guessing():
    assert chance_bound([], 100, 10) == 0.1
    assert chance_bound([0], 1000, 10) == 0.1
    worst = chance_bound([5, 30, 2], 100, 10)
    assert stats.binom.cdf(30, 100, worst) == pytest.approx(0.01)  # so few would agree once in a hundred times
    assert chance_bound([100], 100, 10) == 1.0
    assert chance_bound([0], 3, 10) == pytest.approx(1 - 0.01 ** (1 / 3))
