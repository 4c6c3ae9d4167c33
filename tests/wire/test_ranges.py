from __future__ import annotations

import numpy as np
import pytest

from wire import BadInput, Card, Feature
from wire.fits import ranges, uniform, with_ranges

RNG = np.random.default_rng(0)
FEATURES = (Feature("age", low=17, high=90), Feature("work", ("none", "state", "own")), Feature("gain"))
X = np.array([[20, 0, -5], [30, 2, np.nan], [np.nan, 1, 100]], np.float32)


def card(*features: Feature, **fields: object) -> Card:
    return Card("m", (len(features) or 3,), 2, features=features, low=None, high=None, missing=True, **fields)


def test_each_feature_has_a_range_of_its_own() -> None:
    known = with_ranges(card(*FEATURES), X)
    low, high = ranges(known)
    assert (low.tolist(), high.tolist()) == ([17, 0, -5], [90, 2, 100])
    rows = uniform(known, 500, RNG)
    assert (rows.min(axis=0) >= low).all() and (rows.max(axis=0) <= high).all()
    assert {*rows[:, 1].tolist()} == {0, 1, 2}
    assert rows[:, 0].max() - rows[:, 0].min() > 65


def test_what_is_not_known_comes_of_the_attackers_rows() -> None:
    with pytest.raises(BadInput, match="finite bounds"):
        ranges(card(*FEATURES))
    low, high = ranges(with_ranges(card(), X))
    assert (low.tolist(), high.tolist()) == ([20, 0, -5], [30, 2, 100])
    image = Card("m", (1, 2, 2), 2, low=None, high=None)
    assert ranges(with_ranges(image, np.full((3, 1, 2, 2), 7, np.float32)))[1].max() == 7


def test_bounds_that_are_known_stay() -> None:
    known = Card("m", (2,), 2)
    assert with_ranges(known, np.full((2, 2), 0.5, np.float32)) is known
    assert with_ranges(card(*FEATURES), X[:0]).features == FEATURES


def test_features_that_differ_in_range_alone_are_equal() -> None:
    assert Feature("age", low=1) == Feature("age", high=3) and repr(Feature("age", low=1)) == repr(Feature("age"))
