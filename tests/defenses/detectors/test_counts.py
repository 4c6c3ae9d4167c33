"""HODA and the out-of-distribution filter as detectors: windows of an account's latest rows."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import beta, pearsonr
from sites import watching

from defenses import Hoda, Ood
from defenses.detectors import counts as window
from defenses.detectors.calibration import Calibrated
from defenses.detectors.detector import Featurizer
from defenses.detectors.hoda import hardness
from defenses.monitoring.snapshots import dump, load
from defenses.store import open_store
from wire import Answer, BadInput, Card, Query

BENIGN = (0.7, 0.1, 0.05, 0.03, 0.03, 0.02, 0.02, 0.02, 0.01, 0.01, 0.01)
HARD = (0.3, 0.05, 0.05, 0.05, 0.05, 0.05, 0.05, 0.1, 0.1, 0.1, 0.1)
HODA, OOD = Hoda(0.1, BENIGN, 50), Ood(Path("filter"), 0.3, 50)
SHARES = {"hoda": (BENIGN, HARD), "ood": ((0.95, 0.05), (0.6, 0.4))}
both = pytest.mark.parametrize("detector", [HODA, OOD], ids=["hoda", "ood"])


def kind(detector):
    return type(detector).__name__.lower()


def stream(shares, n=400, seed=0):
    """Features of rows, in which each value has some share."""
    return np.random.default_rng(seed).choice(len(shares), n, p=shares).astype(np.uint8), np.zeros(n, np.int64)


def turning(detector, n=200, seed=0):
    """An account that turns from harmless to not."""
    (benign, labels), (attack, _) = (stream(shares, n, seed) for shares in SHARES[kind(detector)])
    return np.concatenate([benign, attack]), np.concatenate([labels, labels])


def score(detector, notes):
    if isinstance(detector, Hoda):
        return 1 - pearsonr(np.bincount(notes, minlength=len(detector.benign)), detector.benign).statistic
    return notes.mean()


def naive(detector, notes):
    """The first row, and the statistic there, after which the detector should raise an alarm."""
    step = detector.interval or detector.rows
    for row in range(1, len(notes) + 1):
        if row >= detector.rows and row % step == 0:
            found = score(detector, notes[row - detector.rows : row])
            if found > detector.delta:
                return row, found
    return None


@pytest.mark.parametrize("interval", [None, 1, 7])
@both
def test_the_alarm_comes_where_a_loop_over_all_rows_says_however_they_are_split(detector, interval, monkeypatch):
    detector = replace(detector, interval=interval)
    notes, labels = turning(detector)
    row, statistic = naive(detector, notes)
    assert row > 200
    monkeypatch.setattr(window, "_STEP", 150)
    rng, states = np.random.default_rng(0), []
    for cuts in ([], range(1, 400), sorted(rng.integers(0, 401, 20)), [399]):
        state = detector.begin()
        for some, of in zip(np.split(notes, cuts), np.split(labels, cuts), strict=True):
            state = detector.observe(state, some, of)
            state = load(detector.begin(), dump(state))  # as a worker that starts in between
        states.append(state)
    assert len({dump(state) for state in states}) == 1
    alarm = states[0].alarm
    assert alarm.row == row
    assert alarm.statistic == pytest.approx(statistic, abs=1e-12)
    assert states[0].rows == 400 and states[0].nbytes == detector.rows


@both
def test_nothing_is_found_where_delta_is_the_greatest(detector):
    notes, labels = turning(detector)
    untuned = replace(detector, **type(detector).uncalibrated)
    assert isinstance(detector, Calibrated) and isinstance(detector, Featurizer)
    assert untuned.observe(untuned.begin(), notes, labels).alarm is None
    assert untuned.observe(untuned.begin(), np.full_like(notes, 1), labels).alarm is None


@both
def test_calibration_chooses_on_some_streams_and_counts_what_it_accuses_of_others(detector):
    streams = [stream(SHARES[kind(detector)][0], seed=seed) for seed in range(80)]
    untuned = replace(detector, **type(detector).uncalibrated)
    strict, none = untuned.calibrated(iter(streams[:40]), iter(streams[40:]), fpr=0.0)
    loose, some = untuned.calibrated(streams[:40], streams[40:], fpr=0.2)
    if isinstance(detector, Hoda):
        counts = np.bincount(np.concatenate([notes for notes, _ in streams[:40]]), minlength=11)
        np.testing.assert_allclose(strict.benign, counts / counts.sum(), atol=1e-6)
    for chosen, found, accused in ((strict, none, 0), (loose, some, None)):
        alarms = [chosen.observe(chosen.begin(), *one).alarm is not None for one in streams]
        assert sum(alarms[:40]) == accused if accused is not None else 0 < sum(alarms[:40]) <= 8
        assert (found.accused, found.streams, found.delta) == (sum(alarms[40:]), 40, chosen.delta)
        assert found.high == pytest.approx(beta.ppf(0.975, found.accused + 1, 40 - found.accused))
    assert strict.observe(strict.begin(), *stream(SHARES[kind(detector)][1])).alarm is not None
    with pytest.raises(BadInput, match="too short; a test needs at least 50 rows"):
        untuned.calibrated([stream(SHARES[kind(detector)][0], 49)], streams[40:], fpr=0.0)
    with pytest.raises(BadInput, match="0 held out"):
        untuned.calibrated(streams, [], fpr=0.0)


@both
def test_rows_that_are_no_features_are_refused(detector):
    labels = np.zeros(3, np.int64)
    for notes in (np.full(3, 99, np.uint8), np.zeros(3, np.float32), np.zeros((3, 4), np.uint8)):
        with pytest.raises(ValueError, match="expected 3 bytes under"):
            detector.observe(detector.begin(), notes, labels)


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda: Hoda(2.1, BENIGN), "delta must lie between 0 and 2, not 2.1"),
        (lambda: Hoda(0.1, (0.5, 0.5)), "not all equal"),
        (lambda: Hoda(0.1, (-1.0, 0.5)), "a share of rows for each checkpoint"),
        (lambda: Hoda(0.1, BENIGN, 50, 51), "interval must lie between 1 and rows, not 50 and 51"),
        (lambda: Ood(Path("f"), -0.1), "delta must lie between 0 and 1, not -0.1"),
        (lambda: Ood(Path("f"), 0.1, 0), "rows must be at least 1, .* not 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make, what):
    with pytest.raises(BadInput, match=what):
        make()


def test_a_flat_histogram_correlates_with_nothing():
    assert HODA.distances(np.array([[3] * 11, [0] * 11])).tolist() == [1, 1]
    assert HODA.distances(np.array([BENIGN]))[0] == pytest.approx(0, abs=1e-12)
    assert HODA.distances(-np.array([BENIGN]))[0] == pytest.approx(2)


def test_a_row_is_as_hard_as_the_number_of_the_checkpoint_from_which_on_its_label_stays():
    rng = np.random.default_rng(0)
    said, labels = rng.random((500, 2, 4)).astype(np.float32), rng.integers(0, 2, 500)
    expected = []
    for row, label in zip(said.argmax(axis=1).tolist(), labels.tolist(), strict=True):
        all_ = [*row, label]  # the victim is the last checkpoint
        expected.append(next(i for i in range(5) if set(all_[i:]) == {label}))
    assert set(expected) == {0, 1, 2, 3, 4}
    assert hardness(said, labels).tolist() == expected and hardness(said, labels).dtype == np.uint8


class Aside:
    """Companions of a victim that answers with a row's first feature: its checkpoints, and a filter."""

    def __init__(self, checkpoints=10, classes=2):
        self._checkpoints, self._classes = checkpoints, classes

    async def checkpoints(self):
        async def passes(x):
            labels = x[:, :1].astype(np.int64) % 4  # which row settles when stands in its second feature
            early = np.arange(self._checkpoints) < x[:, 1:2]
            return np.eye(4, dtype=np.float32)[np.where(early, (labels + 1) % 4, labels)].transpose(0, 2, 1)

        if not self._checkpoints:
            raise BadInput("it was saved without checkpoints")
        return passes

    async def load(self, folder):
        async def passes(x):
            return np.eye(self._classes, dtype=np.float32)[np.minimum(x[:, 1].astype(np.int64), 1)]

        return passes


class Raised(list):
    def clears(self, account, model, detector):
        return 0

    def standing(self, account, model):
        return ()

    async def raise_alarm(self, account, model, detector, clears, look):
        self.append((account, await look()))


async def victim(query):
    labels = query.x[:, 0].astype(np.int64) % 4
    return Answer(labels, np.eye(4, dtype=np.float32)[labels])


@both
async def test_a_monitor_logs_a_byte_of_each_row_and_finds_what_arrays_do(detector, store_url):
    notes, labels = turning(detector)
    x = np.random.default_rng(0).random((400, 500)).astype(np.float32)
    x[:, 0], x[:, 1] = 0, notes
    stores, alarms = [open_store(store_url) for _ in range(2)], Raised()
    try:
        card = Card("m", (500,), 4)
        workers = [watching(detector, kind(detector), store, alarms, card, Aside()) for store in stores]
        for worker in workers:
            await worker.start()
        for at in range(0, 400, 8):
            await workers[at % 3 % 2](Query("a", x[at : at + 8], 0.0), victim)
        entries = (await stores[0].read(workers[0].account("a").log)).entries
        await workers[1].account("a").catch_up()
    finally:
        for store in stores:
            await store.close()
    state = workers[1].account("a").state
    assert dump(state) == dump(detector.observe(detector.begin(), notes, labels))
    account, alarm = alarms[0]
    assert (account, alarm["row"]) == ("a", naive(detector, notes)[0])
    assert sum(map(len, entries)) < 400 * 12  # labels, a byte of each row, and little else


async def test_hoda_wants_as_many_checkpoints_as_its_histogram_has():
    card = Card("m", (2,), 4)
    await HODA.featurizer(Aside(10), card)
    with pytest.raises(BadInput, match="the victim has 8 checkpoints, but benign has 11 shares"):
        await HODA.featurizer(Aside(7), card)
    with pytest.raises(
        BadInput, match=r"hoda: needs the victim's earlier checkpoints, but .* without checkpoints"
    ):
        await HODA.featurizer(Aside(0), card)


async def test_a_filter_of_three_classes_is_none():
    with pytest.raises(BadInput, match="filter: the model has 3 classes; expected 2"):
        await OOD.featurizer(Aside(classes=3), Card("m", (2,), 4))
