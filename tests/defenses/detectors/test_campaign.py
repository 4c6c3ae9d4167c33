"""Campaign: groups of linked accounts that act as one, and harmless groups that only look linked."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from defenses import Campaign
from defenses.detectors.detector import LinkedDetector, Sent
from defenses.detectors.prada import Prada
from defenses.monitoring.links import Queue, Shares, links
from defenses.monitoring.snapshots import dump, load
from wire import BadInput, Origin

DETECTOR = Campaign(Path("harmless.npz"), delta=0.2, beat=0.5, rows=40, requests=30)
STEP = 2.0**-10


def features(n, rng, shift=0.0):
    """Features as the embedding rounds them: harmless ones have the mean 0."""
    x = rng.normal(size=(n, 16)) / 4
    x[:, 0] += shift
    return (np.rint(x / STEP) * STEP).astype(np.float32)


def log(rng, streams):
    """Merges streams of (account, times, features, origin) by time, one row a request."""
    rows = [(at, name, x, origin) for name, times, xs, origin in streams for at, x in zip(times, xs, strict=True)]
    rows.sort(key=lambda row: row[0])
    at, names, x, origins = zip(*rows, strict=True)
    return np.stack(x), list(names), [Sent(t, origin) for t, origin in zip(at, origins, strict=True)]


def observed(x, accounts, sent, detector=DETECTOR, cuts=()):
    state = detector.begin()
    for start, stop in zip([0, *cuts], [*cuts, len(x)], strict=True):
        part = slice(start, stop)
        labels = np.zeros(stop - start, np.int64)
        state = detector.observe(state, x[part], labels, accounts[part], sent[part])
    return state


def crowd(rng, shift, attribute, accounts=20, rows=4, name="a"):
    """Accounts that ask at hours of their own, so that only the attribute links them."""
    streams = []
    for i in range(accounts):
        times = 1e6 + rng.uniform(0, 10 * 86_400) + np.sort(rng.exponential(40, rows)).cumsum()
        origin = Origin(**{"fingerprint": f"f{i}", "opened": 3600 * (i + 1), **attribute})
        streams.append((f"{name}{i}", times, features(rows, rng, shift), origin))
    return streams


@pytest.mark.parametrize(
    "attribute",
    [{"payment": "p"}, {"prefix": "n"}, {"fingerprint": "f", "plan": "free", "opened": 7200}, {}],
    ids=["payer", "prefix", "cohort", "nothing"],
)
def test_accounts_that_share_an_attribute_are_found_together_and_others_are_not(attribute):
    rng = np.random.default_rng(1)
    harmless = crowd(rng, 0.0, {"prefix": "other"}, name="h")
    alarms = observed(*log(rng, [*crowd(rng, 0.8, attribute), *harmless])).alarms
    if attribute:
        assert len(alarms) >= 18 and all(name.startswith("a") for name in alarms)
        assert all(1 <= alarm.row <= 4 for alarm in alarms.values())
    else:
        assert not alarms


def test_a_wave_links_accounts_that_begin_together():
    rng = np.random.default_rng(2)
    streams = [
        (f"a{i}", 1.2e6 + rng.uniform(0, 300) + rng.exponential(60, 4).cumsum(), features(4, rng, 0.8), Origin())
        for i in range(20)
    ]
    assert len(observed(*log(rng, streams)).alarms) >= 15
    apart = [(name, times + 1e4 * i, x, origin) for i, (name, times, x, origin) in enumerate(streams)]
    assert not observed(*log(rng, apart)).alarms


def test_one_thief_in_a_class_of_students_does_not_accuse_the_class():
    rng = np.random.default_rng(3)
    students = crowd(rng, 0.0, {"prefix": "school"}, name="s")
    times = 1e6 + rng.uniform(0, 10 * 86_400, 80)
    thief = ("thief", np.sort(times), features(80, rng, 0.8), Origin(prefix="school"))
    assert not observed(*log(rng, [*students, thief])).alarms


def test_in_a_group_of_both_only_those_who_differ_are_accused():
    rng = np.random.default_rng(4)
    students = crowd(rng, 0.0, {"prefix": "school"}, accounts=12, rows=6, name="s")
    thieves = crowd(rng, 0.9, {"prefix": "school"}, accounts=20, rows=6, name="t")
    alarms = observed(*log(rng, [*students, *thieves])).alarms
    found = {kind: sum(name.startswith(kind) for name in alarms) for kind in "st"}
    assert found["t"] >= 12 and found["s"] <= 1


def test_all_accounts_of_a_guilty_payer_are_accused_later_ones_at_their_first_row():
    rng = np.random.default_rng(5)
    x, accounts, sent = log(rng, crowd(rng, 0.8, {"payment": "p"}))
    late = Sent(sent[-1].at + 5e5, Origin(payment="p"))
    state = observed(
        np.concatenate([x, features(2, rng)]), [*accounts, "late", "late"], [*sent, late, late._replace(at=3e6)]
    )
    assert set(state.alarms) == {*accounts, "late"} and state.alarms["late"].row == 1
    other = DETECTOR.observe(
        state, features(1, rng), np.zeros(1), ["x"], [late._replace(origin=Origin(payment="q"))]
    )
    assert "x" not in other.alarms


def queue(rng, gaps, accounts=10):
    """Harmless rows that one queue sends through accounts of one network in turn."""
    times = 1e6 + gaps.cumsum()
    origin = Origin(prefix="n")
    return [(f"q{i}", times[i::accounts], features(len(times[i::accounts]), rng), origin) for i in range(accounts)]


def test_a_queue_shows_by_its_beat_and_exponential_pauses_hide_it():
    rng = np.random.default_rng(6)
    jittered = observed(*log(rng, queue(rng, rng.uniform(8, 12, 300))))
    assert set(jittered.alarms) == {f"q{i}" for i in range(10)}
    paused = np.where(np.arange(300) % 25 == 0, 2000.0, rng.uniform(8, 12, 300))  # trains between rounds
    assert observed(*log(rng, queue(rng, paused))).alarms
    assert not observed(*log(rng, queue(rng, rng.exponential(10, 300)))).alarms


def test_who_breaks_into_a_beat_does_not_keep_it():
    rng = np.random.default_rng(7)
    stranger = ("stranger", np.sort(1e6 + rng.uniform(0, 3000, 20)), features(20, rng), Origin(prefix="n"))
    alarms = observed(*log(rng, [*queue(rng, rng.uniform(8, 12, 300)), stranger])).alarms
    assert alarms and "stranger" not in alarms


def test_a_payers_quota_counts_all_its_accounts_and_starts_anew_each_day():
    detector = replace(DETECTOR, delta=4.0, beat=0.0, quota=50)
    rng = np.random.default_rng(8)

    def day(number, rows):
        origin = Origin(payment="p")
        return [
            (name, 86_400 * number + 10 + 7 * i + 100 * np.arange(rows), features(rows, rng), origin)
            for i, name in enumerate("abc")
        ]

    quiet = observed(*log(rng, [*day(20, 16), *day(21, 16)]), detector)
    assert not quiet.alarms
    busy = observed(*log(rng, day(20, 20)), detector)
    assert set(busy.alarms) == set("abc") and sorted(alarm.row for alarm in busy.alarms.values()) == [17, 17, 17]


@pytest.fixture
def mixed():
    rng = np.random.default_rng(9)
    streams = [
        *crowd(rng, 0.8, {"payment": "p"}),
        *crowd(rng, 0.4, {"prefix": "n"}, name="b"),
        *queue(rng, rng.uniform(8, 12, 200)),
    ]
    x, accounts, sent = log(rng, streams)
    again = rng.integers(0, len(x), 60)  # some requests have several rows
    order = np.sort(np.concatenate([np.arange(len(x)), again]))
    return x[order], [accounts[i] for i in order], [sent[i] for i in order]


def test_a_state_does_not_depend_on_how_rows_are_split_or_saved(mixed):
    x, accounts, sent = mixed
    whole = observed(x, accounts, sent)
    assert whole.alarms
    rng = np.random.default_rng(10)
    cuts = np.unique(rng.integers(1, len(x) - 1, 40)).tolist()
    assert dump(observed(x, accounts, sent, cuts=cuts)) == dump(whole)
    half = len(x) // 2
    saved = load(DETECTOR.begin(), dump(observed(x[:half], accounts[:half], sent[:half])))
    rest = DETECTOR.observe(saved, x[half:], np.zeros(len(x) - half), accounts[half:], sent[half:])
    assert dump(rest) == dump(whole)


def test_who_is_forgotten_begins_anew(mixed):
    x, accounts, sent = mixed
    state = observed(x, accounts, sent)
    name = next(name for name in state.alarms if name.startswith("a"))
    state = DETECTOR.forget(state, name)
    assert name not in state.alarms and DETECTOR.sent(state, name) == 0
    payer = Sent(sent[-1].at + 1, Origin(payment="p"))
    state = DETECTOR.observe(state, x[:1], np.zeros(1), [name], [payer])
    assert name not in state.alarms and DETECTOR.sent(state, name) == 1


def test_shared_discrepancy_is_the_mean_over_pairs_of_two_accounts():
    rng = np.random.default_rng(11)
    x, owners = features(30, rng, 0.3).astype(float), rng.integers(0, 4, 30)
    shares = Shares()
    for row, owner in zip(x, owners, strict=True):
        shares.add(str(owner), row[None])
    pairs = [(i, j) for i in range(30) for j in range(30) if owners[i] != owners[j]]
    found, own = shares.across()
    assert found == pytest.approx(np.mean([x[i] @ x[j] for i, j in pairs]))
    assert own["2"] == pytest.approx(np.mean([x[i] @ x[j] for i, j in pairs if owners[i] == 2]))
    shares.add("0", features(200, rng, 3.0).astype(float))
    assert shares.across() == (0.0, {})  # nearly all rows are one account's


def test_a_beat_needs_requests_of_several_accounts():
    alone = Queue(["a"] * 30, list(map(float, range(30))))
    assert alone.beat() == (np.inf, [])
    assert Queue(["a", "b"] * 15, [0.0] * 30).beat() == (np.inf, [])


def test_links_name_what_is_known():
    assert links(Sent(5000.0), 4900.0, 600.0) == ["wave/8"]
    known = Origin("n", "f", "free", 3600, "p")
    assert links(Sent(5000.0, known), 4900.0, 600.0)[1:] == ["payment/p", "prefix/n", "cohort/f/free/3600"]


def test_calibration_spares_harmless_groups_and_finds_campaigns():
    rng = np.random.default_rng(12)
    untuned = replace(DETECTOR, **Campaign.uncalibrated)

    def streams(prefix):
        crowds = [crowd(rng, 0.15, {"prefix": f"{prefix}{i}"}, rows=8, name=f"{prefix}{i}-") for i in range(8)]
        return [
            (x, np.zeros(len(x)), [Sent(at, origin) for at in np.sort(1e6 + rng.uniform(0, 1e5, len(x)))])
            for one in crowds
            for _, _, x, origin in one
        ]

    tuned, found = untuned.calibrated(streams("c"), streams("d"), 0.0)
    assert 0 < tuned.delta < 0.3 and 0 < tuned.beat < 1.6 and found.streams == 160
    assert found.accused <= 0.25 * found.streams  # two of eight groups
    assert observed(*log(rng, crowd(rng, 0.9, {"prefix": "n"})), tuned).alarms
    with pytest.raises(BadInput, match="it is not known when the rows came"):
        untuned.calibrated([(x, y) for x, y, _ in streams("e")], [], 0.0)
    with pytest.raises(BadInput, match="no group of harmless accounts has 40 rows"):
        untuned.calibrated(streams("f")[:2], [], 0.0)


@pytest.mark.parametrize(
    "wrong", [{"delta": 5}, {"beat": -1}, {"rows": 1}, {"requests": 3}, {"span": 0}, {"quota": -1}]
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(BadInput, match="campaign: "):
        replace(DETECTOR, **wrong)


def test_only_this_detector_is_told_when_and_from_where():
    assert isinstance(DETECTOR, LinkedDetector) and not isinstance(Prada(0.9), LinkedDetector)
