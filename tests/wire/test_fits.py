import numpy as np
import pytest

from wire import Card
from wire.fits import bounds, label_misfit, misfit

CARD = Card("m", (2, 3), 4)
ROWS = np.full((5, 2, 3), 0.5, np.float32)
HOLES = np.where(np.arange(3) == 1, np.float32(np.nan), ROWS)
TEXTS = np.array(["a", "b"], dtype=object)


def test_a_range_without_an_end_is_infinite():
    assert bounds(CARD) == (0, 1)
    assert bounds(Card("m", (1,), 2, low=None, high=None)) == (-np.inf, np.inf)


@pytest.mark.parametrize(
    ("x", "card"),
    [
        (ROWS, CARD),
        (HOLES, Card("m", (2, 3), 4, missing=True)),
        (100 * ROWS, Card("m", (2, 3), 4, low=None, high=None)),
        (TEXTS, Card("m", (), 2, dtype="BYTES", low=None, high=None)),
    ],
    ids=["numbers", "missing", "unbounded", "texts"],
)
def test_rows_that_fit(x, card):
    assert misfit(x, card) is None


@pytest.mark.parametrize(
    ("x", "why"),
    [
        (ROWS[:0], "there are no rows"),
        (TEXTS, "the rows are texts, but m takes FP32"),
        (ROWS[:, :1], r"the rows have shape \(1, 3\), but m takes \(2, 3\)"),
        (HOLES, "features are missing in some rows, but m needs them all"),
        (ROWS - 1, "the features lie between -0.5 and -0.5, but m takes 0 to 1"),
        (ROWS + 1, "the features lie between 1.5 and 1.5, but m takes 0 to 1"),
    ],
    ids=["none", "texts", "shape", "missing", "low", "high"],
)
def test_rows_that_do_not_fit(x, why):
    with pytest.raises(ValueError, match=f"^{why}$"):
        raise ValueError(misfit(x, CARD))


def test_labels():
    assert label_misfit(np.array([0, 3]), CARD) is None
    assert label_misfit(np.array([9]), Card("m", (1,), 0)) is None
    assert label_misfit(None, CARD) == 'the rows have no labels ("y")'
    assert label_misfit(np.array([4]), CARD) == "the largest label is 4, but m has 4 classes"
