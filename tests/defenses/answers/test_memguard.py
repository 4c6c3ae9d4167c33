"""MemGuard: the classifier of members is deceived, the label and the budget are kept."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest
import sites
from sklearn.datasets import load_digits

from defenses import MemGuard
from defenses.answers.memguard import _membership, train_classifier
from wire import BadInput, Card
from zoo import folder
from zoo.families.mlp import Mlp
from zoo.network import Network
from zoo.training import Training

RNG = np.random.default_rng
NAMES = tuple("0123456789")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """A victim that memorised 300 digits, a fifth of them mislabelled; its classifier; the digits."""
    digits = load_digits()
    x = (digits.images[:, None] / 16).astype(np.float32)
    rng = RNG(0)
    y = np.where(rng.random(len(x)) < 0.2, rng.integers(10, size=len(x)), digits.target)
    victim = Network.new(Mlp((64,)), (1, 8, 8), NAMES, seed=0)
    victim.fit(x[:300], y[:300], Training(60, lr=5e-3), seed=0)
    classifier = train_classifier(victim, x[:150], x[600:750], seed=0)
    path = tmp_path_factory.mktemp("memguard") / "classifier"
    folder.save(classifier, path)
    return victim, classifier, path, x


def sorted_(probs):
    return -np.sort(-probs, axis=1)


def told(guard, x, probs):
    site = sites.site(Card("m", (1, 8, 8), 10))
    return asyncio.run(sites.ask([guard.bind(site)], x, probs))


def test_the_classifier_is_deceived_and_the_label_stays(guarded):
    victim, classifier, path, x = guarded
    rows = np.concatenate([x[150:300], x[750:900]])  # the classifier saw none of them
    probs = victim.predict(rows)
    answer = told(MemGuard(path, budget=2.0), rows, probs)
    assert np.array_equal(answer.labels, probs.argmax(axis=1))
    assert np.array_equal(answer.probs.argmax(axis=1), answer.labels)
    assert np.allclose(answer.probs.sum(axis=1), 1, atol=1e-5)
    before, after = (np.abs(_membership(classifier, sorted_(p))) for p in (probs, answer.probs))
    assert np.median(after) < np.median(before) / 3
    called = [_membership(classifier, sorted_(p)) > 0 for p in (probs, answer.probs)]
    gaps = [of[:150].mean() - of[150:].mean() for of in called]
    assert gaps[0] > 0.2 and abs(gaps[1]) < gaps[0] / 2


def test_the_mean_distortion_stays_within_the_budget(guarded):
    victim, classifier, _, x = guarded
    probs = victim.predict(x[:300])
    for budget in (0.0, 0.1, 1.0):
        noisy, share = MemGuard(folder=None, budget=budget).noised(classifier, probs)
        size = np.abs(noisy - probs).sum(axis=1)
        assert (share * size <= budget + 1e-5).all() and share.min() >= 0 and share.max() <= 1


def test_a_row_is_told_the_same_twice_and_alone(guarded):
    victim, _, path, x = guarded
    guard, probs = MemGuard(path, budget=0.2), victim.predict(x[:40])
    first = told(guard, x[:40], probs)
    assert np.array_equal(first.probs, told(guard, x[:40], probs).probs)
    assert np.allclose(first.probs[7:9], told(guard, x[7:9], probs[7:9]).probs, atol=1e-6)
    changed = (first.probs != probs).any(axis=1).mean()
    assert 0 < changed < 1


def test_what_does_not_fit_is_refused(guarded, tmp_path):
    victim, _, path, _ = guarded
    folder.save(victim, tmp_path / "victim")
    with pytest.raises(BadInput, match="expected a classifier"):
        asyncio.run(MemGuard(tmp_path / "victim").bind(sites.site(Card("m", (1, 8, 8), 10))).start())
    with pytest.raises(BadInput, match="budget must lie"):
        MemGuard(path, budget=3)
    with pytest.raises(BadInput, match="must stand inside top_k"):
        MemGuard(path).disclose(replace(Card("m", (4,), 5), top_k=2))
