"""The filter that shuffles the answers about out-of-distribution rows."""

import asyncio
from pathlib import Path

import numpy as np
import pytest
from sites import site

from defenses import GaussianNoise, LabelOnly, OodFilter, Rounding, TopK, disclosed
from wire import Answer, BadInput, Card, Query

CARD = Card("m", (3,), 5)


class Aside:
    """A classifier to which rows are others whose first feature is above 0."""

    async def load(self, folder):
        async def passes(x):
            return np.eye(2, dtype=np.float32)[(x[:, 0] > 0).astype(np.int64)]

        return passes


FILTER = OodFilter(Path("filter"))


def filtering(secret=bytes(32)):
    return FILTER.bind(site(CARD, secret=secret, companions=Aside()))


@pytest.fixture
def asked():
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.ones(5), 2000).astype(np.float32)
    return rng.normal(size=(2000, 3)).astype(np.float32), Answer(probs.argmax(axis=1), probs)


def ask(layer, x, answer):
    async def victim(query):
        return answer

    return asyncio.run(layer(Query("a", x, 0.0), victim))


def test_others_are_shuffled_and_the_victim_s_own_kind_is_told_as_it_is(asked):
    x, answer = asked
    before, others = answer.probs.copy(), x[:, 0] > 0
    told = ask(filtering(), x, answer)
    np.testing.assert_array_equal(answer.probs, before)  # what is inside keeps its answer
    np.testing.assert_array_equal(told.probs[~others], before[~others])
    np.testing.assert_array_equal(np.sort(told.probs, axis=1), np.sort(before, axis=1))
    np.testing.assert_array_equal(told.labels, told.probs.argmax(axis=1))
    np.testing.assert_array_equal(told.labels[~others], answer.labels[~others])
    kept = (told.labels == answer.labels)[others].mean()
    assert 0.16 < kept < 0.24  # one in five, as by chance
    places = [(told.probs[i] == before[i].max()).argmax() for i in np.flatnonzero(others)]
    assert np.bincount(places, minlength=5).min() > 140  # of a thousand, each place as often


def test_the_same_row_is_shuffled_the_same_way_by_one_secret(asked):
    x, answer = asked
    told = ask(filtering(), x, answer)
    again = ask(filtering(), x[::-1], Answer(answer.labels[::-1], answer.probs[::-1]))
    np.testing.assert_array_equal(told.probs, again.probs[::-1])
    assert (ask(filtering(bytes(31) + b"1"), x, answer).probs != told.probs).any()


@pytest.mark.parametrize(
    ("inside", "why"),
    [(LabelOnly(), "disclose labels only"), (TopK(2), "inside top_k"), (Rounding(2), "undo the rounding")],
)
def test_it_stands_inside_what_withholds_or_rounds(inside, why):
    disclosed([inside, GaussianNoise(0.1), FILTER], CARD)
    with pytest.raises(BadInput, match=f"ood_filter: .*{why}"):
        disclosed([FILTER, inside], CARD)
