"""N-grams: their counts are those of a small text, and probabilities sum to one."""

import numpy as np
import pytest

from wire import BadInput
from zoo.language.ngrams import Ngrams

TEXTS = [[1, 2, 3], [1, 2, 2]] * 20


def test_probabilities_of_all_continuations_sum_to_one():
    grams = Ngrams(TEXTS, 3, 6)
    assert grams.shares.sum() == pytest.approx(1) and (grams.shares >= 0).all()
    for before in ([], [1], [1, 2]):
        told = [grams.log_likelihoods([*before, token])[len(before)] for token in range(1, 6)]
        ended = grams.log_likelihoods(before)[len(before)]
        assert np.exp([*told, ended]).sum() == pytest.approx(1)


def test_more_context_says_more():
    rng = np.random.default_rng(0)
    texts = [[1 + (start + step) % 7 for step in range(9)] for start in rng.integers(0, 7, 60)]
    held = [[1 + (3 + step) % 7 for step in range(9)]]
    loss = [-np.concatenate([Ngrams(texts, n, 9).log_likelihoods(ids) for ids in held]).mean() for n in (1, 2)]
    assert loss[0] > 1.5 > 0.6 > loss[1]


def test_unigrams_are_shares_of_tokens():
    grams = Ngrams(TEXTS, 1, 6)
    probs = np.exp(grams.log_likelihoods([2, 3, 5]))
    counted = np.array([3 / 8, 1 / 8, 0, 2 / 8])  # of 8 tokens of two texts, their ends among them
    np.testing.assert_allclose(probs, grams.shares[1] * counted + grams.shares[0] / 6)


def test_few_texts_are_refused():
    with pytest.raises(BadInput, match="at least 10"):
        Ngrams(TEXTS[:9], 2, 6)
