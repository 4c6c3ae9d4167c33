"""The layer in which a detector watches, on both kinds of store."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

import numpy as np
import pytest
from sites import site

from defenses import Consequence, Monitored, Prada
from defenses.detectors.detector import Sent
from defenses.monitoring import account_state, fold, monitor
from defenses.monitoring.records import entry, read_entry
from defenses.monitoring.snapshots import dump
from defenses.store import open_store
from wire import Answer, BadInput, Card, Origin, Query, Refused

CARD = Card("m", (16,), 4)


class Raised:
    """Keeps what is raised."""

    def __init__(self):
        self.found, self.cleared = [], 0

    def clears(self, account, model, detector):
        return self.cleared

    def standing(self, account, model):
        return ()

    async def raise_alarm(self, account, model, detector, clears, look):
        self.found.append((account, model, detector, await look()))


async def victim(query):
    labels = (query.x[:, 0] * 255).astype(np.int64) % 4
    return Answer(labels, np.eye(4, dtype=np.float32)[labels])


def stream(n=300, seed=0, thief=True):
    """Rows like those of a thief: grey levels a fixed step away from earlier ones."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 256, (n, 16)).astype(np.float32) / np.float32(255)
    if thief:
        of = x[rng.integers(0, n // 3, n - n // 3)]
        step = np.float32(0.1) * rng.choice([-1, 1], of.shape)
        step[:, 0] = 0  # the class stays
        x[n // 3 :] = (of + step).astype(np.float32)
    return x


def naive(x, delta=0.95):
    labels = (x[:, 0] * 255).astype(np.int64) % 4
    detector = Prada(delta)
    return detector.observe(detector.begin(), x, labels)


def watched(**fields):
    return Monitored(Prada(0.95), "prada", Consequence(**fields))


@asynccontextmanager
async def watching(url, **fields):
    store = open_store(url)
    alarms = Raised()
    layer = watched(**fields).bind(site(CARD, store=store, alarms=alarms))
    try:
        yield layer, alarms.found, store
    finally:
        await store.close()


async def ask(layer, x, account="a", idempotency_key=None):
    return await layer(Query(account, x, 0.0, idempotency_key), victim)


def parts(x, size):
    return [x[at : at + size] for at in range(0, len(x), size)]


def test_an_entry_is_read_as_it_was_written():
    x = stream(8, thief=False).reshape(8, 4, 4)
    labels = np.arange(8)
    content = entry(x, labels)
    assert len(content) < 8 * 16 + 60  # pixels are bytes
    read, of, idempotency_key, _, clears, sent = read_entry(content)
    assert sent == Sent(0.0, Origin())
    assert idempotency_key is None and clears == 0 and read_entry(entry(x, labels, "r")).idempotency_key == "r"
    np.testing.assert_array_equal(read, np.rint(x.reshape(8, 16) * 255))
    np.testing.assert_array_equal(of, labels)
    x[3, 0, 0] = 0.1234
    content = entry(x, labels)
    assert len(content) < 7 * 16 + 64 + 80  # the other rows are still bytes
    read = read_entry(content).rows
    np.testing.assert_array_equal(read, x.reshape(8, 16))
    others = x + np.float32(0.001)
    np.testing.assert_array_equal(read_entry(entry(others, labels)).rows, others.reshape(8, 16))
    with pytest.raises(ValueError, match="not an entry"):
        read_entry(content[:-3])
    read = read_entry(entry((x * 255).astype(np.uint8), labels)).rows
    assert read.dtype == np.uint8
    came = Sent(7.5, Origin("p", "f", "free", 3600, "c"))
    assert read_entry(entry(x, labels, account="a", clears=2, sent=came))[3:] == ("a", 2, came)
    with pytest.raises(ValueError, match="not an entry"):
        read_entry(b"nonsense\n")


async def test_it_finds_what_the_detector_finds_on_arrays(store_url):
    expected = naive(stream())
    assert expected.alarm is not None

    async def script():
        async with watching(store_url, reaction="refuse") as (layer, found, _):
            answers = [await ask(layer, x) for x in parts(stream(), 7)]
            return answers, found, dump(layer.account("a").state)

    answers, found, state = await script()
    np.testing.assert_array_equal(
        np.concatenate([a.labels for a in answers]), (stream()[:, 0] * 255).astype(np.int64) % 4
    )
    assert state == dump(expected)
    account, model, kind, alarm = found[0]
    assert (account, model, kind) == ("a", "m", "prada")
    assert (alarm["row"], alarm["statistic"]) == expected.alarm[:2]
    assert alarm["reaction"] == "refuse"


async def test_two_workers_and_a_third_after_them_come_to_one_state(store_url, monkeypatch):
    monkeypatch.setattr(account_state, "_COMPACTED", 64)
    x = stream()

    async def script():
        async with watching(store_url) as (one, found, _), watching(store_url) as (two, other, _):
            for i, some in enumerate(parts(x, 5)):
                await ask((one, two)[i % 2], some)
            await one.account("a").catch_up()
            await two.account("a").catch_up()
            states = [dump(layer.account("a").state) for layer in (one, two)]
            seen = {(alarm["row"], alarm["statistic"]) for *_, alarm in found + other}
        async with watching(store_url) as (late, _, store):
            await late.account("a").catch_up()
            tail = await store.read(late.account("a").log)
            return [*states, dump(late.account("a").state)], seen, tail

    states, seen, tail = await script()
    expected = naive(x)
    assert set(states) == {dump(expected)}
    assert seen == {expected.alarm[:2]}
    assert tail.snapshot is not None and len(tail.entries) < 60


@pytest.mark.parametrize("short", [0, account_state._SHORT])
async def test_what_is_asked_at_once_is_all_watched(store_url, short, monkeypatch):
    monkeypatch.setattr(account_state, "_SHORT", short)  # with threads and without

    async def script():
        async with watching(store_url) as (one, _, _), watching(store_url) as (two, _, _):
            x = stream(120, thief=False)
            await asyncio.gather(*[ask((one, two)[i % 2], some) for i, some in enumerate(parts(x, 4))])
            for layer in (one, two):
                await layer.account("a").catch_up()
            return [layer.account("a").state for layer in (one, two)]

    one, two = await script()
    assert one.rows == 120 and dump(one) == dump(two)


async def test_accounts_are_watched_apart_and_forgotten_states_are_read_again(store_url, monkeypatch):
    monkeypatch.setattr(monitor, "_HELD", 1)

    async def script():
        async with watching(store_url) as (layer, _, _):
            for some in parts(stream(100), 10):
                await ask(layer, some, "a")
                await ask(layer, some, "b")
                assert list(layer._accounts) == ["b"]
                assert layer._held == layer.account("b").nbytes > layer.account("b").state.nbytes > 0
            await layer.account("a").catch_up()
            return layer.account("a").state

    assert dump(await script()) == dump(naive(stream(100)))


class Lost:
    """A store whose replies to appends are lost now and then: what was asked for was done."""

    def __init__(self, store, every):
        self._store, self._every, self._appended = store, every, 0

    def __getattr__(self, name):
        return getattr(self._store, name)

    async def append(self, log, entries, expected=None):
        end = await self._store.append(log, entries, expected)
        self._appended += 1
        if self._appended % self._every == 0:
            raise Refused("the store is unavailable", status=503, retry_after=1)
        return end


async def test_a_request_that_is_retried_under_its_id_is_observed_once(store_url, monkeypatch):
    monkeypatch.setattr(account_state, "_COMPACTED", 64)
    x = stream()

    async def insistent(layer, i, some):
        for _ in range(2 + i % 2):  # some retry what was answered
            while True:
                try:
                    await ask(layer, some, idempotency_key=f"r{i}")
                    break
                except Refused as refused:
                    assert refused.status == 503

    async def script():
        async with watching(store_url) as (one, _, _), watching(store_url) as (two, _, _):
            for layer in (one, two):
                layer.site = replace(layer.site, store=Lost(layer.site.store, 3))
            for i, some in enumerate(parts(x, 6)):
                await insistent((one, two)[i % 2], i, some)
            await insistent(one, 49, x[-6:])
        async with watching(store_url) as (late, _, store):
            await insistent(late, 49, x[-6:])  # after a restart, from a snapshot
            tail = await store.read(late.account("a").log)
            return late.account("a").state, tail

    state, tail = await script()
    assert state.rows == len(x) and dump(state) == dump(naive(x))
    assert tail.snapshot is not None and tail.end > 100


async def test_an_idempotency_key_is_remembered_for_as_many_requests_however_they_are_read(store_url, monkeypatch):
    monkeypatch.setattr(fold, "_KEYS", 3)
    names = ["a", "b", "a", "c", "d", "a", None, "a", "b"]  # "d" made "a" be forgotten, the second "a" then "b"

    async def script():
        async with watching(store_url) as (layer, _, _):
            for i, name in enumerate(names):
                await ask(layer, stream(9)[i : i + 1], idempotency_key=name)
            one = dump(layer.account("a").state)
        async with watching(store_url) as (late, _, _):
            await late.account("a").catch_up()
            return one, dump(late.account("a").state)

    one, late = await script()
    assert one == late == dump(naive(stream(9)[[0, 1, 3, 4, 5, 6, 8]]))


@pytest.mark.parametrize("look", [False, True])
async def test_a_store_that_came_back_with_less_is_read_anew(store_url, look, caplog):
    x = parts(stream(), 10)

    async def script():
        async with watching(store_url) as (layer, _, store), watching("sqlite://") as (_, _, before):
            layer.site = replace(layer.site, store=before)
            for some in x[:20]:
                await ask(layer, some)
            log = layer.account("a").log
            await store.append(log, (await before.read(log)).entries[:10])
            layer.site = replace(layer.site, store=store)
            if look:
                await layer.account("a").catch_up()
                assert layer.account("a").state.rows == 100
            for some in x[20:]:
                await ask(layer, some)
            return dump(layer.account("a").state)

    assert await script() == dump(naive(np.concatenate([*x[:10], *x[20:]])))
    assert "was read up to 20" in caplog.text


async def test_a_cleared_account_starts_anew(store_url):
    async def script():
        async with watching(store_url) as (layer, found, _):
            await ask(layer, stream())
            assert found
            layer.site.alarms.cleared = 1
            found.clear()
            await ask(layer, stream(40, 1))
            return found, dump(layer.account("a").state)

    found, state = await script()
    assert not found and state == dump(naive(stream(40, 1)))


class Away:
    """A store that is unavailable."""

    async def append(self, *_):
        raise Refused("the store is unavailable", status=503, retry_after=1)


@pytest.mark.parametrize("open_", [False, True])
async def test_without_a_store_nothing_is_answered_unless_the_operator_says_so(open_):
    layer = watched(open=open_).bind(site(CARD, store=Away(), alarms=Raised()))
    if open_:
        assert len(await ask(layer, stream(3))) == 3
    else:
        with pytest.raises(Refused) as refused:
            await ask(layer, stream(3))
        assert (refused.value.status, refused.value.retry_after) == (503, 1)


async def test_a_broken_log_is_named_and_nothing_is_answered(store_url, caplog):
    async def script():
        async with watching(store_url) as (layer, _, store):
            await store.append(layer.account("a").log, [b"nonsense"])
            with pytest.raises(Refused, match="cannot be read"):
                await ask(layer, stream(3))
            await store.compact(layer.account("b").log, 0, b"")
            await store.append(layer.account("b").log, [b"x"])
            await store.compact(layer.account("b").log, 1, b"no snapshot")
            with pytest.raises(Refused, match="cannot be read"):
                await ask(layer, stream(3), "b")
            await store.append(layer.account("c").log, [b"x"])
            await store.compact(layer.account("c").log, 1, b'{"receipts":[]}\nno state')
            with pytest.raises(Refused, match="cannot be read"):
                await ask(layer, stream(3), "c")
            wide = np.zeros((1, 17), np.float32)
            await ask(layer, stream(3), "d")
            await store.append(layer.account("d").log, [entry(wide, np.zeros(1, np.int64), "r")])
            for idempotency_key in ("r", "s", "r"):  # what does not fit is found again each time
                with pytest.raises(Refused, match="cannot be read"):
                    await ask(layer, stream(3), "d", idempotency_key)

    await script()
    assert "watch/m/prada/" in caplog.text
    for fault in ("not an entry", "not a snapshot", "not a valid snapshot", "of 17"):
        assert fault in caplog.text


def test_it_takes_numbers_and_its_reaction_must_make_sense():
    with pytest.raises(BadInput, match="texts"):
        watched().disclose(Card("m", (), 2, dtype="BYTES"))
    with pytest.raises(BadInput, match="missing features"):
        watched().disclose(Card("m", (3,), 2, missing=True))
    with pytest.raises(BadInput, match="digits go with the reaction coarsen"):
        Consequence("refuse", 2)


def test_another_detector_or_victim_has_another_log():
    def log(delta, victim):
        return Monitored(Prada(delta), "prada").bind(site(fingerprint=victim)).account("a").log

    assert len({log(0.9, "00"), log(0.8, "00"), log(0.9, "01")}) == 3
    assert log(0.9, "00") == log(0.9, "00")
