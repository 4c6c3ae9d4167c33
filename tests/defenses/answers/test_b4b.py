"""B4B: its cost function, its buckets, and what asking again, more or by two accounts tells."""

import numpy as np
import pytest
import sites

from defenses import B4b
from defenses.answers.b4b import LEVELS
from defenses.store import open_store
from wire import Answer, BadInput, Card, Query

D = 16
PLAIN = B4b(bits=6, beta=0.4, transform="none")


def rows(n, seed=0):
    return np.random.default_rng(seed).random((n, D), np.float32)


async def encode(query):
    """The victim: a row's embedding is the row, centred."""
    return Answer.of_embeddings(query.x - 0.5)


@pytest.fixture
async def store(tmp_path):
    opened = open_store(f"sqlite:///{tmp_path}/b4b.sqlite")
    yield opened
    await opened.close()


def bound(defense, store, fingerprint="00"):
    card = Card("m", (D,), 0, tells_probs=False, embedding=D)
    return defense.bind(sites.site(card, store=store, fingerprint=fingerprint))


async def told(layer, x, account="a", key=None):
    return (await layer(Query(account, x, 0.0, key), encode)).embeddings


def test_the_cost_function_is_the_paper_s():
    b4b = B4b()
    assert b4b.deviation(0.0) == 0
    assert b4b.deviation(0.8) == pytest.approx(0.8, rel=1e-5)
    assert b4b.deviation(0.4) == pytest.approx(1e-6 * (np.sqrt(0.8 / 1e-6) - 1))
    assert B4b(beta=0.01).deviation(1.0) == pytest.approx(10)  # finite, however steep
    for wrong in ({"bits": 0}, {"bits": 17}, {"weight": 0.0}, {"alpha": 1e-7}, {"beta": 1.5}):
        with pytest.raises(BadInput, match="b4b"):
            B4b(**wrong)


def test_buckets_are_the_sides_of_planes():
    planes = np.eye(10)[:, :10]
    found = B4b(bits=10).buckets(planes, np.where(np.arange(10) == 9, 1.0, -1.0)[None])
    assert found.tolist() == [[2, 0]]
    state = B4b(bits=10).observe(B4b(bits=10).begin(), found, np.zeros(1, np.int64))
    assert np.flatnonzero(state.seen).tolist() == [512] and state.rows == 1


async def test_noise_grows_with_what_an_account_has_seen(store):
    layer, x = bound(PLAIN, store), rows(4)
    first = await told(layer, x)
    np.testing.assert_allclose(first, x - 0.5, atol=1e-4)  # four rows, of 64 buckets: hardly any noise
    await told(layer, rows(300, 1))
    later = await told(layer, x)
    assert np.abs(later - (x - 0.5)).mean() > 0.1
    np.testing.assert_allclose(await told(layer, x, "b"), x - 0.5, atol=1e-4)  # another account has seen little
    narrow = np.tile(rows(1), (300, 1))
    await told(layer, narrow, "c")
    np.testing.assert_allclose(await told(layer, x, "c"), x - 0.5, atol=1e-4)  # so has one of a single interest


async def test_asking_a_thousand_times_teaches_nothing(store):
    layer, x = bound(PLAIN, store), rows(2)
    await told(layer, rows(300, 1))
    once = await told(layer, x)
    again = await told(layer, np.repeat(x, 1000, axis=0))
    np.testing.assert_array_equal(again, np.repeat(once, 1000, axis=0))
    other = await told(layer, rows(2, 5))
    assert np.abs((once - x) - (other - rows(2, 5))).max() > 0.01  # noise of the row, not of the account alone


def test_all_later_levels_together_take_a_quarter_of_the_noise_away_at_most():
    b4b = B4b()
    deviations = np.array([b4b.deviation(level / LEVELS) for level in range(1, LEVELS + 1)])
    for first in range(LEVELS - 8):
        best = (1 / deviations[first:] ** 2).sum() ** -0.5  # the best weighted mean of independent noises
        assert best / deviations[first] > 0.75


async def test_transformations_are_an_account_s_own_and_keep_angles(store):
    for kind in ("rotation", "shuffle"):
        layer, x = bound(B4b(transform=kind), store), rows(5)
        ours, theirs = await told(layer, x), await told(layer, x, "b")
        np.testing.assert_allclose(ours @ ours.T, (x - 0.5) @ (x - 0.5).T, atol=1e-5)
        np.testing.assert_allclose(theirs @ theirs.T, ours @ ours.T, atol=1e-5)
        assert np.abs(ours - theirs).max() > 0.1 and np.abs(ours - (x - 0.5)).max() > 0.1
        np.testing.assert_array_equal(await told(bound(B4b(transform=kind), store), x), ours)  # another worker
    shuffled = np.sort(np.abs(await told(bound(B4b(transform="shuffle"), store), x)), axis=1)
    np.testing.assert_allclose(shuffled, np.sort(np.abs(x - 0.5), axis=1), atol=1e-6)


async def test_workers_agree_on_what_was_seen(store):
    one, other = bound(PLAIN, store), bound(PLAIN, store)
    x = rows(3)
    await told(one, rows(150, 1), key="k1")
    await told(other, rows(150, 2))
    await told(one, rows(150, 1), key="k1")  # a retry, which changes nothing
    np.testing.assert_array_equal(await told(one, x), await told(other, x))
    fresh = bound(PLAIN, store)
    np.testing.assert_array_equal(await told(fresh, x), await told(one, x))
    told_of_others = await told(bound(PLAIN, store, "01"), x)
    np.testing.assert_allclose(told_of_others, x - 0.5, atol=1e-4)  # other weights, another log


async def test_a_classifier_behind_it_fails_closed(store):
    async def classify(query):
        return Answer(np.zeros(len(query.x), int), np.ones((len(query.x), 1)))

    with pytest.raises(ValueError, match="no embeddings"):
        await bound(PLAIN, store)(Query("a", rows(1), 0.0), classify)
