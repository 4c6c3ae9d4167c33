"""When PRADA raises an alarm"""

import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
from streams import AUTHORS, images, statistic, synthetic

from defenses.detectors.calibration import calibrate
from defenses.detectors.prada import Prada, State
from defenses.monitoring.sample import Sample
from defenses.monitoring.snapshots import dump
from wire import BadInput


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
