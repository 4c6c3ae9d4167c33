"""PRADA against an implementation of the tests' own, straight from the paper's pseudo-code and scipy's test."""

import math
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
from plain_prada import naive

from defenses.detectors.calibration import calibrate
from defenses.detectors.prada import Prada, State
from defenses.monitoring import growing
from defenses.monitoring.nearest import floats
from defenses.monitoring.sample import Sample
from defenses.monitoring.shapiro_wilk import weights
from defenses.monitoring.snapshots import dump, load
from wire import BadInput

AUTHORS = {"interval": 10, "class_distances": 10, "counted": "after"}


def images(seed, n, d=36, classes=3):
    """Images of 8 bits, each class about a centre, with distances that are nearly normal."""
    rng = np.random.default_rng(seed)
    basis = rng.normal(size=(20, d))
    labels = rng.integers(classes, size=n)
    x = rng.uniform(90, 160, (classes, d))[labels] + 6 * rng.normal(size=(n, 20)) @ basis
    return x.clip(0, 255).astype(np.uint8).astype(np.float32) / np.float32(255), labels


def synthetic(seed, n, d=36, classes=3, step=0.1):
    """Seeds, then rows one step of a fixed length from a row before, as Jacobian-based augmentation makes them."""
    rng = np.random.default_rng(seed)
    x, labels = images(seed, n, d, classes)
    for i in range(n // 4, n):
        parent = rng.integers(i)
        x[i] = (x[parent] + np.float32(step) * rng.choice(np.float32([-1, 1]), d)).clip(0, 1)
        labels[i] = labels[parent]
    return x, labels


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


def statistic(settings, state):
    return state.pasts[0].D.w(settings._is_enough)


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


def test_the_first_alarm_stays():
    settings = Prada(0.9)
    state = settings.observe(State(), *synthetic(3, 300))
    first = state.alarm
    settings.observe(state, *images(4, 2000))
    assert first is not None and state.alarm == first
    assert statistic(settings, state) > 0.9


def test_the_authors_settings_find_at_multiples_of_ten():
    rows = {Prada(0.95, **AUTHORS).observe(State(), *synthetic(seed, 600)).alarm.row for seed in range(8)}
    assert len(rows) > 1 and all(row % 10 == 0 for row in rows)


def test_distances_are_counted_before_or_after_the_filter():
    x, labels = synthetic(3, 400)
    x[5::25] *= 30  # these are filtered out
    before, after = (
        replace(Prada(0.99), counted=counted).observe(State(), x, labels).alarm.row
        for counted in ("before", "after")
    )
    assert before < after


def with_distances(values):
    """A state that has some distances, and nothing else."""
    state = State()
    state.pasts[0].D.add([values], [False], 0.0, lambda *_: True)
    return state


def test_a_distance_at_three_standard_deviations_is_filtered_out():
    """Of 108 times 0 and 12 times 10 the mean is 1 and the standard deviation 3."""
    assert statistic(Prada(0.9), with_distances([0.0] * 108 + [10.0] * 12)) == 1


def ws(numbers, floor):
    """W after each number from the 101st on that is under the floor, added at once or one by one."""
    once, single = Sample(), Sample()
    accepts = lambda count, _: count > 100  # noqa: E731
    found = once.add([[z] for z in numbers], [True] * len(numbers), floor, accepts)
    one_by_one = [single.add([[z]], [True], floor, accepts) for z in numbers]
    assert dump(once) == dump(single)
    return found, [(i, some[0][1]) for i, some in enumerate(one_by_one) if some]


@pytest.mark.parametrize("numbers", ["normal", "uniform", "lognormal", "integers"])
def test_no_w_under_the_floor_is_overlooked(numbers):
    rng = np.random.default_rng(0)
    numbers = {
        "normal": lambda: 10 + rng.normal(size=900),
        "uniform": lambda: np.append(rng.normal(size=600) + 3, rng.random(300)),
        "lognormal": lambda: rng.lognormal(sigma=0.2, size=900),
        "integers": lambda: rng.integers(0, 9, 900).astype(float),
    }[numbers]()
    _, every = ws(numbers, math.inf)
    assert len(every) == 800
    for floor in np.quantile([w for _, w in every], [0.01, 0.1, 0.5]):
        found, _ = ws(numbers, floor)
        expected, least = [], floor
        for i, w in every:
            if w < least:
                expected.append((i, w))
                least = w
        assert found == expected != []


def test_distances_that_the_filter_lets_in_again_are_seen():
    """Some lie just beyond it; a few others widen it, and W falls at once."""
    settings, rng = Prada(0.9), np.random.default_rng(0)
    base = (10 + rng.normal(size=2000)).tolist()
    more = [12.9, 7.1] * 2
    far = next(c for c in np.arange(13, 16, 0.002) if beyond(base + [c] * 60 + more[:2], c))
    state = with_distances(base + [far] * 60)
    before = statistic(settings, state)
    after = statistic(settings, with_distances(base + [far] * 60 + more))
    assert after < before - 0.01
    found = state.pasts[0].D.add([[z] for z in more], [True] * 4, after + 0.001, lambda *_: True)
    assert found and found[-1][1] <= after


def beyond(values, z):
    moments = with_distances(values).pasts[0].D.moments
    return abs(z - moments.mean) > 3 * moments.std


def test_nobody_is_accused_of_a_hundred_distances():
    x, labels = synthetic(3, 104)  # 3 of them are the first of their classes
    distances = len(Prada(1.0).observe(State(), x, labels).pasts[0].D.values)
    assert distances == 101
    assert Prada(1.0).observe(State(), x[:103], labels[:103]).alarm is None
    assert Prada(1.0).observe(State(), x, labels).alarm.row == 104


def test_the_least_window_can_alarm():
    x, labels = synthetic(1, 102, classes=1)  # each class costs a row
    assert Prada(1.0, window=102).lowest(x, labels) < math.inf


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"delta": 1.5}, "delta must lie between 0 and 1, not 1.5"),
        ({"delta": 0.9, "interval": 0}, "interval must be at least 1, not 0"),
        ({"delta": 0.9, "enough": 1}, "at least 2, not 1"),
        ({"delta": 0.9, "counted": "never"}, "not 'never'"),
        ({"delta": 0.9, "window": 101}, "101 rows never holds more than 100"),
        ({"delta": 0.9, "window": 103, "enough": 101}, "103 rows never holds more than 101"),
    ],
)
def test_settings_that_make_no_sense_are_refused(fields, what):
    with pytest.raises(BadInput, match=what):
        Prada(**fields)


def test_delta_is_chosen_on_some_streams_and_tried_on_others():
    lowest = [Prada(0.9).lowest(*images(seed, 400)) for seed in range(60)]
    chosen = calibrate(lowest[:30], lowest[30:], fpr=0.1)
    assert sum(w < chosen.delta for w in lowest[:30]) == 3
    assert sum(w < np.nextafter(chosen.delta, 2) for w in lowest[:30]) == 4  # none greater would do
    accused = sum(
        Prada(chosen.delta).observe(State(), *images(seed, 400)).alarm is not None for seed in range(30, 60)
    )
    assert (chosen.accused, chosen.streams) == (accused, 30)
    assert chosen.low == pytest.approx(scipy.stats.beta.ppf(0.025, accused, 31 - accused) if accused else 0)
    assert chosen.high == pytest.approx(scipy.stats.beta.ppf(0.975, accused + 1, 30 - accused))
    with pytest.raises(BadInput, match="0 streams"):
        calibrate([], lowest, 0.1)
    with pytest.raises(BadInput, match="not 1"):
        calibrate(lowest, lowest, 1.0)


def test_the_data_sets_own_images_are_what_is_attacked():
    """The defaults find steps of a fixed length soon after their seeds, and nothing in the seeds' own kind."""
    benign, attack = images(20, 1500), synthetic(21, 1500)
    settings = Prada(0.95)
    assert settings.observe(State(), *benign).alarm is None
    alarm = settings.observe(State(), *attack).alarm
    assert 375 < alarm.row < 700 and alarm.statistic < 0.95 and math.isfinite(alarm.statistic)
