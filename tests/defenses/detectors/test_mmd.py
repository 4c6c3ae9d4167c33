"""MMD: windows of an account's rows against harmless rows, in the victim's features."""

import asyncio

import numpy as np
import pytest

from defenses import Consequence, Mmd, Monitored
from defenses.monitoring.embedding import SIZE, Embedding
from defenses.monitoring.snapshots import dump
from wire import BadInput, Card
from zoo.data.pool import Pool

CARD = Card("m", (6,), 3, low=None, high=None)


class NoLayer:
    """The companions of a victim without a penultimate layer."""

    async def activations(self, rows):
        raise BadInput("there is no such layer")


def rows(n, seed, shift=0.0):
    """Rows of three classes, whose first feature says which."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    x = rng.normal(size=(n, 6)).astype(np.float32)
    x[:, 0] += 4 * labels
    x[:, 1] += np.float32(shift)
    return x, labels


@pytest.fixture
def embedding(tmp_path):
    x, y = rows(1500, 0)
    Pool(x, y, tuple("abc")).save(tmp_path / "harmless.npz")
    return lambda by_class=True: asyncio.run(Embedding.of(tmp_path / "harmless.npz", NoLayer(), CARD, by_class))


def features(embedding, x, labels):
    return asyncio.run(embedding.features(x, labels)), labels


def exact(x, labels, x_ref, y_ref, bandwidth):
    """The squared discrepancy by kernels, one pair after another, each row less its class's harmless rows."""
    kernel = lambda a, b: np.exp(-((a[:, None] - b) ** 2).sum(axis=2) / (2 * bandwidth**2))  # noqa: E731
    within, to, among = kernel(x, x), kernel(x, x_ref), kernel(x_ref, x_ref)
    mean = np.stack([to[:, y_ref == c].mean(axis=1) for c in range(3)], axis=1)
    between = np.array([[among[np.ix_(y_ref == a, y_ref == b)].mean() for b in range(3)] for a in range(3)])
    pairs = within - mean[:, labels] - mean[:, labels].T + between[np.ix_(labels, labels)]
    n = len(x)
    return (pairs.sum() - np.trace(pairs)) / (n * (n - 1))


def test_the_statistic_is_the_discrepancy_by_kernels(tmp_path):
    x_ref, y_ref = rows(400, 1)

    async def describe(x):
        return x.astype(np.float64)

    embedding = Embedding(describe, x_ref.astype(np.float64), y_ref, 3)
    some = x_ref[np.random.default_rng(0).permutation(400)].astype(np.float64)
    distances = np.sqrt(((some[:, None] - some) ** 2).sum(axis=2))[np.triu_indices(400, 1)]
    detector = Mmd(tmp_path, 4.0, rows=200)
    for shift in (0.0, 1.0, 3.0):
        x, labels = rows(200, 2, shift)
        (found,) = detector._fold(detector.begin(), *features(embedding, x, labels))
        expected = exact(x.astype(np.float64), labels, x_ref.astype(np.float64), y_ref, np.median(distances))
        assert found == pytest.approx(expected, abs=0.03), shift


def test_splitting_a_stream_changes_nothing(embedding, tmp_path):
    x, labels = features(embedding(), *rows(1030, 3, 1.0))
    detector = Mmd(tmp_path, 0.01, rows=100)
    whole = detector.observe(detector.begin(), x, labels)
    for size in (1, 7, 100, 333):
        state = detector.begin()
        for at in range(0, 1030, size):
            state = detector.observe(state, x[at : at + size], labels[at : at + size])
        assert dump(state) == dump(whole)
    assert whole.rows == 1030 and whole.seen == 30 and whole.alarm.row == 100


def test_a_row_s_features_do_not_depend_on_its_company(embedding):
    x, labels = rows(50, 4)
    together, _ = features(embedding(), x, labels)
    alone = np.concatenate([features(embedding(), x[i : i + 1], labels[i : i + 1])[0] for i in range(0, 50, 7)])
    np.testing.assert_array_equal(together[::7], alone)
    assert together.shape == (50, SIZE) and together.dtype == np.float32


def test_a_customer_of_one_class_is_harmless_only_if_classes_are_told_apart(embedding, tmp_path):
    x, labels = rows(4000, 5)
    one = labels == 1
    found = {}
    for by_class in (True, False):
        known = embedding(by_class)
        harmless = [features(known, *rows(400, 10 + i)) for i in range(20)]
        detector, _ = Mmd(tmp_path, 4.0, rows=200, by_class=by_class).calibrated(harmless[:10], harmless[10:], 0.0)
        found[by_class] = detector.observe(detector.begin(), *features(known, x[one], labels[one])).alarm
        other = detector.observe(detector.begin(), *features(known, *rows(400, 6, 1.0)))
        assert other.alarm.row == 200  # of another distribution
    assert found[False] is not None and found[True] is None


def test_a_share_of_foreign_rows_counts_with_its_square(embedding, tmp_path):
    known, detector = embedding(), Mmd(tmp_path, 4.0, rows=2000)
    foreign, labels = rows(2000, 7, 5.0)
    x, of = rows(2000, 8)
    (whole,) = detector._fold(detector.begin(), *features(known, foreign, labels))
    half = np.arange(2000) % 2 == 0
    x[half], of[half] = foreign[half], labels[half]
    (mixed,) = detector._fold(detector.begin(), *features(known, x, of))
    assert mixed == pytest.approx(whole / 4, rel=0.15)


def test_what_does_not_fit_is_named(tmp_path):
    Pool(rows(10, 0)[0]).save(tmp_path / "unlabelled.npz")
    Pool(np.zeros((10, 5), np.float32), np.zeros(10, np.int64)).save(tmp_path / "narrow.npz")
    for file, fault in (("unlabelled", "no labels"), ("narrow", "have shape"), ("none", "no such file")):
        with pytest.raises(BadInput, match=fault):
            asyncio.run(Embedding.of(tmp_path / f"{file}.npz", NoLayer(), CARD, True))
    assert asyncio.run(Embedding.of(tmp_path / "unlabelled.npz", NoLayer(), CARD, False))
    with pytest.raises(BadInput, match="delta must lie between 0 and 4"):
        Mmd(tmp_path, 5.0)
    with pytest.raises(ValueError, match="after rows of"):
        detector = Mmd(tmp_path, 1.0)
        state = detector.observe(detector.begin(), np.zeros((3, 4)), np.zeros(3))
        detector.observe(state, np.zeros((3, 5)), np.zeros(3))


def test_it_takes_texts(tmp_path):
    assert Monitored(Mmd(tmp_path, 0.1), "mmd", Consequence()).disclose(Card("m", (), 2, dtype="BYTES"))
