"""Answers to accounts that raised an alarm: shuffled or coarsened."""

import numpy as np

from defenses.reactions.reaction import coarsened, shuffled
from wire import Answer

SECRET = bytes(32)


def told(n=2000, k=5):
    probs = np.random.default_rng(0).dirichlet(np.ones(k), n).astype(np.float32)
    return np.arange(n * 3, dtype=np.float32).reshape(n, 3), Answer(probs.argmax(axis=1), probs)


def test_shuffling_is_the_same_for_the_same_row_and_keeps_the_label_the_likeliest():
    x, answer = told()
    once = shuffled(SECRET, x, answer, 5)
    again = shuffled(SECRET, x[::-1], Answer(answer.labels[::-1], answer.probs[::-1]), 5)
    np.testing.assert_array_equal(once.probs, again.probs[::-1])
    np.testing.assert_array_equal(once.labels, once.probs.argmax(axis=1))
    np.testing.assert_array_equal(np.sort(once.probs, axis=1), np.sort(answer.probs, axis=1))
    assert 0.29 < (once.labels == answer.labels).mean() < 0.38  # each of three classes as often
    ranks = (answer.probs > answer.probs[np.arange(2000), once.labels][:, None]).sum(axis=1)
    assert set(ranks) == {0, 1, 2}
    other = shuffled(bytes(31) + b"1", x, answer, 5)
    assert (other.labels != once.labels).any()


def test_shuffling_leaves_withheld_probabilities_as_many_and_labels_alone_alone():
    x, answer = told()
    probs = np.where(answer.probs == answer.probs.max(axis=1, keepdims=True), answer.probs, np.nan)
    once = shuffled(SECRET, x, Answer(answer.labels, probs), 5)
    assert (np.isfinite(once.probs).sum(axis=1) == 1).all()
    np.testing.assert_array_equal(np.nanargmax(once.probs, axis=1), once.labels)
    bare = shuffled(SECRET, x, Answer(answer.labels % 2), 2)
    assert bare.probs is None and 0.45 < (bare.labels == answer.labels % 2).mean() < 0.55


def test_coarsening_rounds_or_withholds():
    _, answer = told(10)
    np.testing.assert_array_equal(coarsened(answer, 1).probs, answer.probs.round(1))
    assert np.isnan(coarsened(answer, None).probs).all()
    assert coarsened(Answer(answer.labels), 1).probs is None
