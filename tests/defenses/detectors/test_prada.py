"""PRADA against an implementation of the tests' own, straight from the paper's pseudo-code and scipy's test."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from plain_prada import naive
from streams import AUTHORS, images, statistic, synthetic

from defenses.detectors.prada import Prada, State
from defenses.monitoring import growing
from defenses.monitoring.nearest import floats
from defenses.monitoring.shapiro_wilk import weights
from defenses.monitoring.snapshots import dump, load


def mixed(seed, n):
    """Pixels, other rows and repeated ones."""
    rng = np.random.default_rng(seed)
    x, labels = synthetic(seed, n)
    again = rng.random(n) < 0.2
    x[again] = x[rng.integers(n, size=again.sum())]
    some = rng.random(n) < 0.3
    x[some] += np.float32(1e-4) * rng.random((some.sum(), x.shape[1]), np.float32)
    return x, labels


STREAMS = {
    "benign": lambda: images(1, 400),
    "bytes": lambda: ((images(2, 300)[0] * 255).round().astype(np.uint8), images(2, 300)[1]),
    "synthetic": lambda: synthetic(3, 400),
    "late attack": lambda: tuple(map(np.concatenate, zip(images(4, 350), synthetic(5, 250), strict=True))),
    "mixed": lambda: mixed(6, 400),
    "one class": lambda: images(7, 300, classes=1),
    "hundred classes": lambda: images(8, 500, d=9, classes=100),
    "few": lambda: images(9, 5),
    "one row repeated": lambda: (np.ones((200, 4), np.float32), np.zeros(200, np.int64)),
    "three rows": lambda: (np.float32([0, 1, 5])[np.arange(300) % 3, None], np.zeros(300, np.int64)),
    "outliers": lambda: (images(10, 400)[0] * np.float32([1, 1, 1, 1, 30] * 80)[:, None], images(10, 400)[1]),
    "large and small": lambda: (
        images(11, 300)[0] * np.float32([1e-22, 1e18])[:, None].repeat(150, 0),
        images(11, 300)[1],
    ),
}


SETTINGS = {
    "paper": Prada(0.9),
    "high": Prada(0.985),
    "authors": Prada(0.95, **AUTHORS),
    "few of a class": Prada(0.95, class_distances=35, enough=20),
    "every third": Prada(0.99, interval=3, enough=30),
}


WINDOWS = {
    "window": Prada(0.9, window=260),
    "odd window": Prada(0.97, window=131, enough=50),
    "authors' in a window": Prada(0.97, **AUTHORS, window=300),
}


def split(settings, x, labels, sizes):
    state, start = settings.begin(), 0
    for size in sizes:
        state = settings.observe(state, x[start : start + size], labels[start : start + size])
        start += size
    assert start >= len(x)
    return state


def float_rows(x):
    return np.float32(x if x.dtype != np.uint8 else x / np.float32(255)).reshape(len(x), -1)


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
def test_the_papers_pseudo_code_agrees(stream, settings):
    x, labels = stream()
    alarm, lowest, joined, thresholds, d = naive(settings, x, labels, every=True)
    state = split(settings, x, labels, [64] * -(-len(x) // 64))
    assert state.rows == len(x)
    assert (state.alarm is None) == (alarm is None)
    if alarm:
        assert state.alarm.row == alarm[0]
        assert state.alarm.statistic == pytest.approx(alarm[1], abs=1e-6)
    assert settings.lowest(x, labels) == pytest.approx(lowest, abs=1e-6)
    flat = float_rows(x)
    assert {c for c, kept in state.pasts[0].G.sets.items() if kept.count} == set(joined)
    for c, numbers in joined.items():
        rows = floats(state.pasts[0].G.sets[c].rows.values)
        np.testing.assert_array_equal(rows, flat[np.array(numbers) - 1])
        assert state.pasts[0].T[c] == pytest.approx(thresholds[c], rel=1e-6, abs=1e-12)
    np.testing.assert_allclose(state.pasts[0].D.values, d, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("settings", WINDOWS.values(), ids=WINDOWS)
@pytest.mark.parametrize("stream", ["benign", "late attack", "mixed", "hundred classes"])
def test_in_a_window_the_pseudo_code_begins_anew_after_each_half(stream, settings):
    x, labels = STREAMS[stream]()
    state, half = split(settings, x, labels, [64] * 10), settings.window // 2
    bare, expected, pasts = replace(settings, window=None), None, []
    for start in range(0, len(x) + 1, half):
        alone = replace(bare, delta=0.0).begin()
        for row in range(start + 1, min(start + 2 * half, len(x)) + 1):
            bare.observe(alone, x[row - 1 : row], labels[row - 1 : row])
            decides = row > start + half or start == 0
            w = statistic(bare, alone) if decides and (row - start) % settings.interval == 0 else None
            if expected is None and w is not None and w < settings.delta:
                expected = (row, w)
        pasts.append(alone.pasts[0])
    assert state.alarm == expected
    assert stream not in ("late attack", "mixed") or expected is not None
    decides = pasts[-2 if len(x) >= half else -1]
    for one, other in zip(state.pasts, (decides, pasts[-1]), strict=True):
        assert one.rows == other.rows
        np.testing.assert_array_equal(one.D.values, other.D.values)
        assert one.T == other.T and one.D_G == other.D_G


@pytest.mark.parametrize("settings", [*SETTINGS.values(), *WINDOWS.values()], ids=[*SETTINGS, *WINDOWS])
@pytest.mark.parametrize("stream", ["late attack", "mixed", "hundred classes", "large and small"])
def test_the_state_is_the_same_however_rows_are_split(stream, settings, monkeypatch):
    x, labels = STREAMS[stream]()
    whole = dump(split(settings, x, labels, [len(x)]))
    rng = np.random.default_rng(0)
    for sizes in ([1] * len(x), [64] * 10, [*rng.integers(0, 40, 60).tolist(), len(x)]):
        assert dump(split(settings, x, labels, sizes)) == whole
    monkeypatch.setattr(growing, "_STEP", 7)
    assert dump(split(settings, x, labels, [len(x)])) == whole


@pytest.mark.parametrize("seed", range(5))
def test_bytes_and_255ths_give_one_state_in_any_calls(seed):
    rng = np.random.default_rng(seed)
    x, labels = synthetic(seed, 400, classes=int(rng.integers(1, 6)))
    octets = np.rint(x.clip(0, 1) * 255).astype(np.uint8)
    x = octets / np.float32(255)
    if seed % 2:  # one row that is no pixels
        x[200, 0] += np.float32(1e-3)
    settings = Prada(0.95, window=None if seed < 3 else 150)
    whole = dump(split(settings, x, labels, [len(x)]))
    for _ in range(3):
        state, start = settings.begin(), 0
        while start < len(x):
            part = slice(start, start + int(rng.integers(1, 90)))
            as_bytes = rng.random() < 0.5 and not (seed % 2 and part.start <= 200 < part.stop)
            settings.observe(state, (octets if as_bytes else x)[part], labels[part])
            start = part.stop
        assert dump(state) == whole


def test_a_saved_state_goes_on_where_it_was():
    settings = Prada(0.9, class_distances=10, window=250)
    x, labels = STREAMS["mixed"]()
    whole = settings.observe(settings.begin(), x, labels)
    state = settings.observe(settings.begin(), x[:170], labels[:170])
    again = load(settings.begin(), dump(state))
    assert dump(settings.observe(again, x[170:], labels[170:])) == dump(whole)
    assert again.alarm == whole.alarm and whole.alarm is not None


def test_what_is_wrong_changes_nothing():
    settings = Prada(0.9)
    state = settings.observe(State(), *images(0, 20))
    before = dump(state)
    wrong = np.full((3, 36), 0.5, np.float32)
    wrong[2, 5] = np.nan
    for x, labels, what in (
        (wrong, np.zeros(3, np.int64), "finite"),
        (wrong[:2, :30], np.zeros(2, np.int64), "30 features after rows of 36"),
        (wrong[:2], np.zeros(3, np.int64), "2 rows with 3 labels"),
    ):
        with pytest.raises(ValueError, match=what):
            settings.observe(state, x, labels)
    assert dump(state) == before
    assert dump(settings.observe(state, wrong[:0], np.zeros(0, np.int64))) == before


@pytest.mark.parametrize("d", [784, 3072])
def test_rows_are_kept_as_bytes_and_once(d):
    """10 % over the bytes of the rows kept, and so it is while they come."""
    x, labels = images(0, 2000, d, classes=10)
    settings, state = Prada(0.5), State()
    tracemalloc.start()
    for start in range(0, len(x), 50):
        settings.observe(state, x[start : start + 50], labels[start : start + 50])
    _, most = tracemalloc.get_traced_memory()
    weights.cache_clear()  # all accounts share these
    now, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    kept = sum(kept.count for kept in state.pasts[0].G.sets.values()) * d
    assert kept > 1500 * d
    assert state.nbytes < 1.1 * kept
    assert now < 1.1 * kept + 1e5  # with Python's own objects
    assert most < 1.2 * kept + 60 * 50 * d  # and what one call takes for a while


def test_a_window_bounds_what_is_kept():
    settings, state = Prada(0.5, window=200), State()
    x, labels = images(0, 3000, 784, classes=4)
    for start in range(0, len(x), 64):
        settings.observe(state, x[start : start + 64], labels[start : start + 64])
        for past, most in zip(state.pasts, (200, 100), strict=False):
            assert sum(kept.count for kept in past.G.sets.values()) <= past.rows <= most
        assert state.nbytes <= 1.2 * 300 * 784


def test_a_long_past_hides_an_attack_but_for_a_window():
    x, labels = map(np.concatenate, zip(images(12, 6000), synthetic(13, 600), strict=True))
    assert Prada(0.9).observe(State(), x, labels).alarm is None
    alarm = Prada(0.9, window=300).observe(State(), x, labels).alarm
    assert alarm is not None and alarm.row > 6000
