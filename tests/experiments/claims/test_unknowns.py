"""The encoding of Adult's rows for A2."""

import numpy as np
from kinds import table

from experiments.claims.unknowns import one_hot, uniform_rows


def test_complete_rows_are_encoded_and_the_target_becomes_the_label():
    pool = table()
    encoded = one_hot(pool, pool, "work")
    whole = ~np.isnan(pool.x).any(axis=1)
    assert [feature.name for feature in encoded.features] == ["age", "gain", "class low", "class high"]
    assert encoded.class_names == ("none", "state", "own", "other")
    assert np.array_equal(encoded.y, pool.x[whole, 1])
    assert encoded.x.min() == 0 and encoded.x.max() == 1
    assert np.array_equal(encoded.x[:, 2:].argmax(axis=1), pool.y[whole])


def test_a_category_that_is_not_the_target_gets_a_feature_for_each_value():
    pool = table()
    encoded = one_hot(pool, pool, "none of them")
    assert encoded.x.shape[1] == 1 + 4 + 1 + 2
    assert (encoded.x[:, 1:5].sum(axis=1) == 1).all()
    assert np.array_equal(encoded.y, pool.y[~np.isnan(pool.x).any(axis=1)])


def test_uniform_rows_spread_over_ranges_and_codes():
    pool, rng = table(), np.random.default_rng(0)
    rows = uniform_rows(pool, 2000, rng)
    assert np.bincount(rows.x[:, 1].astype(int)).min() > 400
    assert np.nanmin(pool.x[:, 0]) <= rows.x[:, 0].min() < 19 and 88 < rows.x[:, 0].max() <= np.nanmax(
        pool.x[:, 0]
    )
