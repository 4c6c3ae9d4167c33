"""A text classifier that is stolen by random words."""

import numpy as np
import pytest

from attacker.asking import NotApplicable
from attacker.extraction.random_words import RandomWords, drawn
from wire import Answer, BadInput, Card, Oracle
from zoo.data.pool import Pool, texts

GOOD, BAD = ["fine", "lovely", "moving"], ["dull", "slow", "flat"]
CARD = Card("films", (), 2, dtype="BYTES", max_rows=64, tells_probs=False, class_names=("bad", "good"))


def says(x):
    """A victim that counts words."""
    return np.array([sum((w in GOOD) - (w in BAD) for w in text.split()) >= 0 for text in x], np.int64)


def corpus():
    rng = np.random.default_rng(0)
    words = np.array([*GOOD, *BAD, *"a film of the town and its people".split()], object)  # noqa: SIM905
    return texts([" ".join(rng.choice(words, n)) for n in rng.integers(3, 9, 200)])


def test_random_words_of_a_corpus_steal_a_classifier_of_words():
    oracle = Oracle(lambda x: Answer(says(x)), CARD, budget=300)
    copy = RandomWords(rows=300).extract(oracle, Pool(corpus()), np.random.default_rng(1))
    assert oracle.spent == 300
    unseen = drawn(corpus(), 300, 100, np.random.default_rng(2))
    agreement = (copy.predict(unseen).argmax(1) == says(unseen)).mean()
    assert agreement > max(says(unseen).mean(), 1 - says(unseen).mean()) + 0.15


def test_texts_have_the_corpus_s_lengths_and_its_most_frequent_words():
    found = drawn(texts(["a a b", "a c b a b"]), 400, 2, np.random.default_rng(0))
    assert {len(text.split()) for text in found} == {3, 5}
    counts = [sum(text.split().count(word) for text in found) for word in "abc"]
    assert counts[2] == 0 and abs(counts[0] / sum(counts) - 0.5) < 0.05


def test_what_has_no_words_is_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(BadInput, match="the pool has 1 words"):
        drawn(texts(["a", "a"]), 5, 10, rng)
    with pytest.raises(BadInput, match="no texts"):
        drawn(np.zeros((3, 2), np.float32), 5, 10, rng)
    with pytest.raises(BadInput, match="does not take texts; expected tfidf"):
        RandomWords(family="cnn")
    numbers = Oracle(lambda x: Answer(says(x)), Card("m", (2,), 2))
    with pytest.raises(NotApplicable, match="texts"):
        RandomWords().extract(numbers, Pool(corpus()), rng)
