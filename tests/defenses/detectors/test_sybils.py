"""The monitor across accounts: what it counts, whom it accuses, and that its state does not depend on batches."""

import asyncio
import math
from dataclasses import replace

import numpy as np
import pytest
from sites import watching

from defenses import Sybils
from defenses.monitoring import account_state
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
    detector = Sybils(file, 0.5, share=0.02, window=1000)
    asyncio.run(detector.prepare(Card("m", (D,), 3)))
    return detector


def noted(detector, x):
    return asyncio.run(detector.features(x, np.zeros(len(x), np.int64)))


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
        np.testing.assert_allclose(state._evidence.rows[state.number(name)], values, atol=1e-9)
    assert state.rows == min(window, len(x))


def test_the_state_does_not_depend_on_calls_and_outlasts_a_restart(sybils):
    x, accounts = mixed()
    rows = noted(sybils, x)
    np.testing.assert_array_equal(rows, noted(sybils, np.rint(x * 255).astype(np.uint8)))

    async def at_once():
        return await asyncio.gather(*[sybils.features(part, None) for part in (x[:1], x[1:90], x[90:])])

    np.testing.assert_array_equal(rows, np.concatenate(asyncio.run(at_once())))
    whole = fold(sybils, rows, accounts).to_bytes()
    assert fold(sybils, rows, accounts, (1,)).to_bytes() == whole
    assert fold(sybils, rows, accounts, (3, 64, 17)).to_bytes() == whole
    half = fold(sybils, rows[:200], accounts[:200])
    again = fold(sybils, rows[200:], accounts[200:], state=sybils.begin(half.to_bytes()))
    assert again.to_bytes() == whole
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
    evidence = state._evidence.rows[state.number("b")].copy()
    state = sybils.forget(sybils.forget(state, "a"), "nobody")
    np.testing.assert_array_equal(state._evidence.rows[state.number("b")], evidence)
    state = fold(sybils, rows[200:], names[200:], state=state)
    assert state.alarms["b"] == before["b"] and 1 <= state.alarms["a"].row <= 20  # its rows began at 1 again


def test_hits_as_rare_as_they_may_be_accuse_as_rarely_as_the_rate_says(file):
    detector = Sybils(file, 0.5, share=0.02, rate=1e-3)

    def accused(p, rng):
        state = detector.begin()
        for name in range(150):
            number = state.number(str(name))
            for hit in (rng.random(300) < p).tolist():
                state.weigh(number, detector._gains[int(hit)], detector.enough)
        return len(state.alarms)

    assert accused(0.02, RNG(0)) <= 150 * 300 * 1e-3  # at most 45 alarms are to be expected
    assert accused(0.2, RNG(1)) > 140


def test_a_ratio_is_chosen_on_harmless_accounts_and_tried_on_others(file):
    blank = Sybils(file, **Sybils.blank, share=0.02, window=1000)

    def streams(seed, accounts=20, rows=100):
        x = noted(blank, harmless(accounts * rows, seed))
        return [(part, np.zeros(len(part), np.int64)) for part in np.split(x, accounts)]

    detector, found = blank.calibrated(iter(streams(61)), iter(streams(71)), 0.0)
    assert 0.2 < detector.ratio == found.delta < 0.9
    assert (found.accused, found.streams) == (0, 20) and found.high > 0
    rows = noted(blank, harmless(4000, 81))
    nearest = []
    for _, near in detector.nearest(detector.begin(), rows, ["x", "y"] * 2000):
        nearest.append(near.ratios)
    hits = (np.concatenate(nearest)[1000:] < detector.ratio).mean()
    assert 0.005 < hits < 0.04
    copied = [(np.tile(rows[:10], (20, 1)), np.zeros(200, np.int64)) for rows, _ in streams(61)]
    with pytest.raises(BadInput, match="200 different harmless rows"):
        blank.calibrated(copied, streams(71), 0.0)
    with pytest.raises(BadInput, match="expected more rows, or a smaller window"):
        blank.calibrated(streams(61, rows=2), streams(71), 0.0)
    with pytest.raises(BadInput, match="no harmless rows"):
        blank.calibrated([], streams(71), 0.0)


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


def test_a_reference_must_be_rows_of_the_victims(file, tmp_path):
    with pytest.raises(BadInput, match="no such file"):
        asyncio.run(Sybils(tmp_path / "none.npz", 0.5).prepare(Card("m", (D,), 3)))
    with pytest.raises(BadInput, match=r"rows of shape \(24,\); expected \(25,\)"):
        asyncio.run(Sybils(file, 0.5).prepare(Card("m", (25,), 3)))


def test_what_is_no_state_or_no_noted_rows_is_refused(sybils):
    with pytest.raises(ValueError, match="no state of accounts"):
        sybils.begin(b"nonsense")
    rows = noted(sybils, harmless(4, 1))
    state = fold(sybils, rows, ["a"] * 4)
    whole = state.to_bytes()
    with pytest.raises(ValueError, match="no state of accounts"):
        sybils.begin(whole[: len(whole) // 2])
    for wrong in (rows[:, 1:], rows[:, :4], np.zeros((2, D + 4), np.float32)):
        with pytest.raises(ValueError, match="sybils: "):
            sybils.observe(state, wrong, np.zeros(len(wrong), np.int64), ["a"] * len(wrong))
    with pytest.raises(ValueError, match="of 3 accounts"):
        sybils.observe(state, rows, np.zeros(4, np.int64), ["a"] * 3)
    assert state.to_bytes() == whole


async def victim(query):
    return Answer(np.zeros(len(query.x), np.int64))


def test_two_workers_come_to_one_state_and_accuse_each_account_once(sybils, store_url, monkeypatch):
    monkeypatch.setattr(account_state, "_COMPACTED", 64)
    x = synthetic(300, 3)
    names = [f"s{i % 5}" for i in range(300)]

    def layers(count):
        stores = [open_store(store_url) for _ in range(count)]
        workers = [ControlLog(store, lambda: 7.0) for store in stores]
        return (
            stores,
            workers,
            [
                watching(sybils, "sybils", store, worker, reaction="refuse")
                for store, worker in zip(stores, workers, strict=True)
            ],
        )

    async def script():
        stores, workers, watches = layers(2)
        queries = [Query(names[i], x[i : i + 1], 0.0) for i in range(300)]
        for i in range(0, 300, 50):  # some at once
            asked = [watches[j % 2](query, victim) for j, query in enumerate(queries[i : i + 50])]
            await asyncio.gather(*asked)
        for layer, worker in zip(watches, workers, strict=True):
            await layer.account("s0").catch_up()
            await worker.catch_up()
        states = [layer.account("anybody").state.to_bytes() for layer in watches]
        raised = [event["account"] for event in workers[0].state.audit if event["do"] == "raise alarm"]
        await workers[1].clear_alarm("s2", "m", "sybils", "root")
        await watches[0](Query("s2", harmless(1, 91), 0.0), victim)
        await watches[1].account("s0").catch_up()
        cleared = [set(layer.account("s0").state.alarms) for layer in watches]
        last = watches[0].account("s0").state.to_bytes()
        for store in stores:
            await store.close()
        stores, _, (late,) = layers(1)
        await late.account("s1").catch_up()
        tail = await stores[0].read(late.account("s1").log)
        anew = late.account("s1").state.to_bytes()
        await stores[0].close()
        return states, raised, cleared, last, anew, tail

    states, raised, cleared, last, anew, tail = asyncio.run(script())
    assert states[0] == states[1] and sorted(raised) == [f"s{i}" for i in range(5)]
    assert cleared == [{"s0", "s1", "s3", "s4"}] * 2
    assert anew == last and tail.snapshot is not None


def test_a_retry_is_observed_once_and_another_accounts_request_of_that_name_too(sybils, tmp_path):
    x = harmless(3, 1)

    async def script():
        store = open_store(f"sqlite:///{tmp_path / 'store.sqlite'}")
        layer = watching(sybils, "sybils", store, ControlLog(store, lambda: 7.0))
        for account in ("a", "a", "b"):
            await layer(Query(account, x, 0.0, "request 1"), victim)
        rows = layer.account("a").state.rows
        await store.close()
        return rows

    assert asyncio.run(script()) == 6
