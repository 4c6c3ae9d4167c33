"""The monitor across accounts: what it counts, whom it accuses, and that its state does not depend on batches."""

import asyncio
import math
from dataclasses import replace

import numpy as np
import pytest
from sites import observed, watching

from defenses import Sybils
from defenses.monitoring import account_state
from defenses.monitoring.recent import Nearest, Recent
from defenses.monitoring.reference import Reference
from defenses.monitoring.snapshots import dump, load
from defenses.store import open_store
from server.control.log import ControlLog
from wire import Answer, BadInput, Card, Query
from zoo.data import Pool

D = 24
RNG = np.random.default_rng


def harmless(n, seed, d=D):
    """Grey levels along five directions, so that rows have neighbours."""
    basis = RNG(99).normal(size=(5, d))
    x = 128 + 25 * (RNG(seed).normal(size=(n, 5)) @ basis) + RNG(seed + 1).normal(size=(n, d))
    return (x.clip(0, 255).astype(np.uint8) / np.float32(255)).astype(np.float32)


def synthetic(n, seed, step=8):
    """A few harmless rows, doubled by steps of random signs."""
    rng = RNG(seed)
    x = np.rint(harmless(20, seed) * 255)
    while len(x) < n:
        more = x + step * rng.choice([-1, 1], x.shape)
        x = np.concatenate([x, more[rng.permutation(len(x))].clip(0, 255)])
    return x[:n].astype(np.float32) / np.float32(255)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("reference") / "reference.npz"
    Pool(harmless(1000, 1)).save(path)
    return path


@pytest.fixture
def sybils(file):
    return Sybils(file, 0.5, share=0.02, window=1000)


def noted(detector, x):
    return asyncio.run(Reference(detector.reference, x.shape[1:]).features(x, np.zeros(len(x), np.int64)))


def fold(detector, rows, accounts, sizes=(10**9,), state=None):
    """Observes in calls of some sizes, in turn."""
    state, at, turn = state or detector.begin(), 0, 0
    while at < len(rows):
        part = slice(at, at + sizes[turn % len(sizes)])
        state = detector.observe(state, rows[part], np.zeros(len(rows[part]), np.int64), accounts[part])
        at, turn = part.stop, turn + 1
    return state


def naive(detector, x, accounts, reference):
    """The docstring, row by row: alarms, and each account's evidence."""
    x, reference = (np.rint(rows.astype(float) * 255) for rows in (x, reference))
    far = np.sqrt(((x[:, None] - reference) ** 2).sum(-1)).min(1)
    shares = [detector.share ** (i / 6) for i in range(1, 6)]
    evidence, counts, alarms = {}, {}, {}
    for i, name in enumerate(accounts):
        counts[name] = counts.get(name, 0) + 1
        evidence.setdefault(name, [0.0] * 5)
        first = max(0, i - detector.window)
        distances = np.sqrt(((x[first:i] - x[i]) ** 2).sum(1))
        least = distances.min(initial=math.inf)
        if least == 0:
            continue
        hit = least < detector.ratio * far[i] and accounts[first + distances.argmin()] != name
        for k, share in enumerate(shares):
            gain = math.log(share / detector.share) if hit else math.log((1 - share) / (1 - detector.share))
            evidence[name][k] = max(0.0, evidence[name][k] + gain)
        if max(evidence[name]) >= math.log(5 / detector.rate) and name not in alarms:
            alarms[name] = (counts[name], max(evidence[name]))
    return alarms, evidence


def mixed(n=400, k=4):
    """Rows of a thief and of others, in random order; some are copies."""
    rng = RNG(5)
    x = np.concatenate([synthetic(n // 2, 7), harmless(n - n // 2, 11)])
    names = [f"sybil{i % k}" for i in range(n // 2)] + [f"other{i % 3}" for i in range(n - n // 2)]
    order = np.argsort(np.concatenate([np.sort(rng.random(n // 2)), np.sort(rng.random(n - n // 2))]))
    x = x[order]
    x[50:60] = x[0:10]
    return x, [names[i] for i in order]


@pytest.mark.parametrize(("window", "accused"), [(1000, 4), (90, 2)])
def test_it_does_what_its_description_says(file, window, accused):
    detector = Sybils(file, 0.5, share=0.02, rate=1e-4, window=window)
    x, accounts = mixed()
    x[100:140] *= np.float32(0.99)  # no pixels, which are rounded
    x[150:155] = x[100:105]
    state = fold(detector, noted(detector, x), accounts)
    alarms, evidence = naive(detector, x, accounts, harmless(1000, 1))
    assert {name: alarm.row for name, alarm in state.alarms.items()} == {n: row for n, (row, _) in alarms.items()}
    assert len(alarms) == accused and all(name.startswith("sybil") for name in alarms)
    for name, (_, most) in alarms.items():
        assert state.alarms[name].statistic == pytest.approx(most, abs=1e-9)
    for name, values in evidence.items():
        np.testing.assert_allclose(state.accounts[name].evidence, values, atol=1e-9)
    assert min(window, len(x)) <= state.rows <= window + 256


async def test_the_state_does_not_depend_on_calls_and_outlasts_a_restart(sybils):
    x, accounts = mixed()
    features = await sybils.featurizer(None, Card("m", (D,), 3))
    parts = [features(part, np.zeros(len(part), np.int64)) for part in (x[:1], x[1:90], x[90:])]
    rows = np.concatenate(await asyncio.gather(*parts))
    for one in (x, np.rint(x * 255).astype(np.uint8)):
        np.testing.assert_array_equal(rows, await features(one, np.zeros(len(x), np.int64)))
    whole = dump(fold(sybils, rows, accounts))
    assert dump(fold(sybils, rows, accounts, (1,))) == whole
    assert dump(fold(sybils, rows, accounts, (3, 64, 17))) == whole
    half = fold(sybils, rows[:200], accounts[:200])
    again = fold(sybils, rows[200:], accounts[200:], state=load(sybils.begin(), dump(half)))
    assert dump(again) == whole
    assert again.nbytes < 1.2 * rows.size + 20_000


@pytest.mark.parametrize("padding", [0, 0.5, 0.9])
@pytest.mark.parametrize("k", [2, 40])
def test_who_splits_a_theft_is_accused_and_nobody_else(sybils, k, padding):
    rng, theft = RNG(k), synthetic(600, 3)
    pads = int(len(theft) * padding / (1 - padding))
    x = np.concatenate([theft, harmless(pads, 21), harmless(1000, 31)])
    names = [f"s{i}" for i in rng.integers(k, size=len(theft))] + [f"s{i}" for i in rng.integers(k, size=pads)]
    names += [f"o{i % 20}" for i in range(1000)]
    order = np.argsort(np.concatenate([np.sort(rng.random(n)) for n in (len(theft), pads, 1000)]))
    detector = Sybils(sybils.reference, 0.5, share=0.02, window=5000)
    found = fold(detector, noted(detector, x[order]), [names[i] for i in order]).alarms
    assert not [name for name in found if name.startswith("o")]
    assert len(found) >= 0.9 * k


def test_copies_of_public_rows_and_sequences_of_frames_accuse_nobody(sybils):
    public = harmless(60, 41)
    order = RNG(0).permutation(np.repeat(np.arange(60), 10))
    state = fold(sybils, noted(sybils, public[order]), [f"a{i % 10}" for i in range(600)])
    assert not state.alarms
    frames = np.cumsum(RNG(1).choice([-2, 2], (300, D)), axis=0) + 128
    frames = (frames.clip(0, 255) / np.float32(255)).astype(np.float32)
    state = fold(sybils, noted(sybils, frames), ["film"] * 300, state=state)
    assert not state.alarms
    alone = fold(replace(sybils, own=True), noted(sybils, frames), ["film"] * 300)
    assert set(alone.alarms) == {"film"}
    again = fold(sybils, noted(sybils, frames + np.float32(0.003)), ["copyist"] * 300, state=state)
    assert set(again.alarms) == {"copyist"}  # the same frames, from another account, are no exact copies


def test_a_theft_by_one_key_is_seen_where_its_own_rows_count(sybils):
    theft, dummies = synthetic(300, 3), harmless(700, 21)
    x = np.concatenate([theft, dummies])[RNG(0).permutation(1000)]
    assert not fold(sybils, noted(sybils, x), ["a"] * 1000).alarms
    both = np.concatenate([x, harmless(300, 31)])
    assert set(fold(replace(sybils, own=True), noted(sybils, both), ["a"] * 1000 + ["b"] * 300).alarms) == {"a"}


def test_a_harmless_past_delays_an_alarm_and_prevents_none(sybils):
    theft = synthetic(200, 3)
    past = harmless(800, 51)
    names = ["a", "b"] * 100
    alone = fold(sybils, noted(sybils, theft), names).alarms
    late = fold(sybils, noted(sybils, np.concatenate([past, theft])), [*["a", "b"] * 400, *names]).alarms
    for name in "ab":
        assert 0 <= late[name].row - 400 - alone[name].row <= 20


def test_who_is_forgotten_starts_anew_and_the_others_do_not(sybils):
    rows = noted(sybils, synthetic(400, 3))
    names = ["a", "b", "c", "d"] * 100
    state = fold(sybils, rows[:200], names[:200])
    before = dict(state.alarms)
    assert set(before) == set("abcd")
    state = sybils.forget(state, "a")
    assert state.alarms == {name: before[name] for name in "bcd"}
    evidence = list(state.accounts["b"].evidence)
    state = sybils.forget(sybils.forget(state, "a"), "nobody")
    assert state.accounts["b"].evidence == evidence
    state = fold(sybils, rows[200:], names[200:], state=state)
    assert state.alarms["b"] == before["b"] and 1 <= state.alarms["a"].row <= 20  # its rows began at 1 again


def test_hits_as_rare_as_they_may_be_accuse_as_rarely_as_the_rate_says(file):
    detector = Sybils(file, 0.5, share=0.02, rate=1e-3)

    def accused(p, rng):
        names = np.repeat([str(i) for i in range(150)], 300).tolist()
        ratios, none = np.where(rng.random(len(names)) < p, 0.1, 0.9), np.zeros(len(names), bool)
        found = Nearest(ratios, none, np.zeros(len(names)), np.ones(len(names)))
        return len(detector.weigh(detector.begin(), names, found).alarms)

    assert accused(0.02, RNG(0)) <= 150 * 300 * 1e-3  # at most 45 alarms are to be expected
    assert accused(0.2, RNG(1)) > 140


def test_a_ratio_is_chosen_on_harmless_accounts_and_tried_on_others(file):
    untuned = Sybils(file, **Sybils.uncalibrated, share=0.02, window=1000)

    def streams(seed, accounts=20, rows=100):
        x = noted(untuned, harmless(accounts * rows, seed))
        return [(part, np.zeros(len(part), np.int64)) for part in np.split(x, accounts)]

    detector, found = untuned.calibrated(iter(streams(61)), iter(streams(71)), 0.0)
    assert 0.2 < detector.ratio == found.delta < 0.9
    assert (found.accused, found.streams) == (0, 20) and found.high > 0
    rows = noted(untuned, harmless(4000, 81))
    ratios = detector.ratios(Recent().take(rows, ["x", "y"] * 2000, detector.window))
    hits = (ratios[1000:] < detector.ratio).mean()
    assert 0.005 < hits < 0.04
    copied = [(np.tile(rows[:10], (20, 1)), np.zeros(200, np.int64)) for rows, _ in streams(61)]
    with pytest.raises(BadInput, match="200 distinct harmless rows"):
        untuned.calibrated(copied, streams(71), 0.0)
    with pytest.raises(BadInput, match="use more rows, or a smaller window"):
        untuned.calibrated(streams(61, rows=2), streams(71), 0.0)
    with pytest.raises(BadInput, match="no harmless rows"):
        untuned.calibrated([], streams(71), 0.0)


@pytest.mark.parametrize(
    ("field", "value"), [("ratio", 1.5), ("share", 0.5), ("share", 0), ("rate", 0), ("window", 0)]
)
def test_settings_that_make_no_sense_are_refused(file, field, value):
    with pytest.raises(BadInput, match=f"sybils: .*{field}"):
        Sybils(**{"reference": file, "ratio": 0.5, field: value})


def test_features_of_any_unit_are_told_in_steps_of_the_references_range(sybils, tmp_path):
    to = lambda x: (x * np.float32(640) - np.float32(100)) * np.arange(1, D + 1, dtype=np.float32)  # noqa: E731
    reference = harmless(1000, 1)
    reference[:2] = [[0] * D, [1] * D]
    paths = [tmp_path / f"{name}.npz" for name in ("plain", "units")]
    for path, x in zip(paths, (reference, to(reference)), strict=True):
        Pool(x).save(path)
    x = synthetic(50, 3)
    plain, units = (noted(Sybils(path, 0.5), rows) for path, rows in zip(paths, (x, to(x)), strict=True))
    np.testing.assert_array_equal(plain, units)
    np.testing.assert_array_equal(noted(Sybils(paths[1], 0.5), to(x * 3 - 1))[:, :D].max(), 255)


async def test_a_reference_must_be_rows_of_the_victims(file, tmp_path):
    card = Card("m", (D,), 3)
    with pytest.raises(BadInput, match="no such file"):
        await Sybils(tmp_path / "none.npz", 0.5).featurizer(None, card)
    with pytest.raises(BadInput, match=r"1000 rows of shape \(24,\); expected at least one of shape \(25,\)"):
        await Sybils(file, 0.5).featurizer(None, Card("m", (25,), 3))
    (tmp_path / "text.npz").write_text("x")
    np.savez(tmp_path / "other.npz", y=np.zeros(3))
    for name in ("text.npz", "other.npz"):
        with pytest.raises(BadInput, match=f"{name}: not a valid .npz file of rows"):
            await Sybils(tmp_path / name, 0.5).featurizer(None, card)
    for x, what in ((np.zeros((3, D)), "bytes or float32"), (np.full((3, D), np.nan, np.float32), "without")):
        np.savez(tmp_path / "wrong.npz", x=x)
        with pytest.raises(BadInput, match=what):
            await Sybils(tmp_path / "wrong.npz", 0.5).featurizer(None, card)


def test_rows_without_a_distance_behind_them_are_refused(sybils):
    rows = noted(sybils, harmless(4, 1))
    state = fold(sybils, rows, ["a"] * 4)
    whole = dump(state)
    for wrong, what in (
        (rows[:, 1:], "23 features after rows of 24"),
        (rows[:, :4], "each followed by a distance"),
        (np.zeros((2, D + 4), np.float32), "each followed by a distance"),
    ):
        with pytest.raises(ValueError, match=what):
            sybils.observe(state, wrong, np.zeros(len(wrong), np.int64), ["a"] * len(wrong))
    with pytest.raises(ValueError, match="of 3 accounts"):
        sybils.observe(state, rows, np.zeros(4, np.int64), ["a"] * 3)
    assert dump(sybils.observe(state, rows[:0], np.zeros(0, np.int64), [])) == whole


async def victim(query):
    return Answer(np.zeros(len(query.x), np.int64))


async def started(sybils, store, alarms, **consequence):
    monitor = watching(sybils, "sybils", store, alarms, Card("m", (D,), 3), **consequence)
    await monitor.start()
    return monitor


async def test_two_workers_come_to_one_state_and_accuse_each_account_once(sybils, store_url, monkeypatch):
    monkeypatch.setattr(account_state, "_COMPACTED", 64)
    x = synthetic(300, 3)
    names = [f"s{i % 5}" for i in range(300)]
    stores = [open_store(store_url) for _ in range(3)]
    try:
        workers = [ControlLog(store, lambda: 7.0) for store in stores]
        pairs = zip(stores, [worker.alarms for worker in workers], strict=True)
        *monitors, late = [await started(sybils, *pair, reaction="refuse") for pair in pairs]
        queries = [Query(names[i], x[i : i + 1], 0.0) for i in range(300)]
        for i in range(0, 300, 50):  # some at once
            await asyncio.gather(
                *[observed(monitors[j % 2], query, victim) for j, query in enumerate(queries[i : i + 50])]
            )
        for monitor, worker in zip(monitors, workers, strict=False):
            await monitor.account("s0").catch_up()
            await worker.catch_up()
        one, other = (dump(monitor.account("anybody").state) for monitor in monitors)
        assert one == other
        raised = [event["account"] for event in workers[0].audit if event["do"] == "raise alarm"]
        assert sorted(raised) == [f"s{i}" for i in range(5)]
        await workers[1].alarms.clear("s2", "m", "sybils", "root")
        await workers[0].catch_up()  # as a charge makes it do
        await observed(monitors[0], Query("s2", harmless(1, 91), 0.0), victim)
        await monitors[1].account("s0").catch_up()
        for monitor in monitors:
            assert set(monitor.account("s0").state.alarms) == {"s0", "s1", "s3", "s4"}
        await late.account("s1").catch_up()
        assert dump(late.account("s1").state) == dump(monitors[0].account("s0").state)
        assert (await stores[2].read(late.account("s1").log)).snapshot is not None
    finally:
        for store in stores:
            await store.close()


async def test_a_retry_is_observed_once_and_another_accounts_request_of_that_name_too(sybils, tmp_path):
    x = harmless(3, 1)
    store = open_store(f"sqlite:///{tmp_path / 'store.sqlite'}")
    monitor = await started(sybils, store, ControlLog(store, lambda: 7.0).alarms)
    for account in ("a", "a", "b"):
        await monitor(Query(account, x, 0.0, "request 1"), victim)
    assert monitor.account("a").state.rows == 6
    await store.close()
