"""Detectors at a live API: what raises alarms, what becomes of accounts that did, what administrators may do."""

import asyncio
import contextlib

import numpy as np
import pytest
from alarm_parts import ask, raised, server_alarms, watched
from parts import SHAPE, Local, local_server
from sites import observed, watching

from defenses import Prada
from defenses.monitoring import monitor as module
from defenses.monitoring.snapshots import dump
from defenses.store import VersionConflict, open_store
from server.control.accounts import Account
from server.control.log import ControlLog
from server.deployment.service import Caller
from wire import Answer, Query, Refused
from wire.http import Endpoint


@pytest.fixture
def harmless():
    return np.random.default_rng(1).integers(0, 256, (500, *SHAPE)).astype(np.float32) / np.float32(255)


def said_on_arrays(network, x):
    detector = Prada(0.95)
    return detector.observe(detector.begin(), x, network.predict(x).argmax(axis=1)).alarm


def alarms(server, admin):
    reply = server.client.get("/admin/alarms", headers=admin)
    assert reply.status_code == 200, reply.text
    return reply.json()


def test_an_alarm_is_raised_where_the_detector_says_and_the_account_alone_is_refused(
    config, network, thief, harmless
):
    expected = said_on_arrays(network, thief)
    assert expected is not None and said_on_arrays(network, harmless) is None
    with local_server(watched(config)) as server:
        admin = server.headers("admin", "root")
        bad, good = (server.endpoint("watched", "free", name) for name in ("bad", "good"))
        labels, refused = ask(bad, thief)
        assert refused.status == 403 and "raised an alarm" in str(refused)
        assert len(labels) == expected.row // 50 * 50  # the request that raised it was not answered
        np.testing.assert_array_equal(labels, network.predict(thief[: len(labels)]).argmax(axis=1))
        assert ask(good, harmless)[1] is None
        (alarm,) = alarms(server, admin)
        assert alarm == {
            "account": "bad",
            "model": "watched",
            "detector": "prada",
            "reaction": "refuse",
            "row": expected.row,
            "statistic": expected.statistic,
            "at": server.clock(),
        }
        (event,) = [e for e in server.client.get("/admin/audit", headers=admin).json() if "alarm" in e["do"]]
        assert (event["do"], event["by"], event["row"]) == ("raise alarm", "prada", expected.row)
        used = asyncio.run(server.store.levels("bad"))
        assert used["watched/ledger/rows"].level == len(labels)  # a refusal costs nothing


def test_a_cleared_alarm_lets_the_account_in_and_the_detector_begin_anew(config, network, thief):
    expected = said_on_arrays(network, thief)
    with local_server(watched(config)) as server:
        admin = server.headers("admin", "root")
        bad = server.endpoint("watched", "free", "bad")
        first, _ = ask(bad, thief)
        place = "/admin/alarms/bad/watched/prada"
        assert server.client.delete(place, headers=admin).json()["row"] == expected.row
        assert alarms(server, admin) == []
        assert server.client.delete(place, headers=admin).status_code == 404
        second, refused = ask(bad, thief)
        assert len(second) == len(first) and refused.status == 403
        assert [alarm["row"] for alarm in alarms(server, admin)] == [expected.row]
        done = [e["do"] for e in server.client.get("/admin/audit", headers=admin).json() if "alarm" in e["do"]]
        assert done == ["raise alarm", "clear alarm", "raise alarm"]


def test_detectors_and_reactions_go_on_after_a_restart(config, network, thief):
    expected = said_on_arrays(network, thief)
    middle = expected.row // 2
    with local_server(watched(config)) as server:
        key = server.account("bad", "free")
        assert (
            ask(Endpoint("http://local", model="watched", key=key, client=server.client), thief[:middle])[1]
            is None
        )
    for _ in range(2):
        with local_server(config) as server:
            again = Endpoint("http://local", model="watched", key=key, client=server.client)
            rows = thief[middle : expected.row - 1] if not server_alarms(server) else thief
            labels = [again(rows[at : at + 50]) for at in range(0, len(rows), 50)] if rows is not thief else []
            with pytest.raises(Refused, match="raised an alarm"):
                again(thief[expected.row - 1 : expected.row])
            assert [alarm.row for alarm in server_alarms(server)] == [expected.row]
            assert labels or rows is thief


def test_two_workers_raise_one_alarm_and_both_refuse(config, network, thief):
    expected = said_on_arrays(network, thief)
    with local_server(watched(config)) as one, local_server(config) as two:
        admin = one.headers("admin", "root")
        key = one.account("bad", "free")
        ends = [Endpoint("http://local", model="watched", key=key, client=s.client) for s in (one, two)]
        for i, at in enumerate(range(0, expected.row, 10)):
            with contextlib.suppress(Refused):  # the last one raises it
                ends[i % 2](thief[at : at + 10])
        for end in ends:
            with pytest.raises(Refused, match="raised an alarm"):
                end(thief[:1])
        for server in (one, two):
            (alarm,) = alarms(server, admin)
            assert (alarm["row"], alarm["statistic"]) == expected[:2]
        done = [e for e in one.client.get("/admin/audit", headers=admin).json() if "alarm" in e["do"]]
        assert len(done) == 1
        one.client.delete("/admin/alarms/bad/watched/prada", headers=admin)
        assert len(ends[1](thief[:1])) == 1  # the other worker lets it in at once


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
async def test_who_asks_two_workers_at_once_raises_one_alarm(network, thief, kind, tmp_path, request):
    url = f"sqlite:///{tmp_path / 'store.sqlite'}"
    if kind == "redis":
        own = request.getfixturevalue("own_redis")
        own.flushall()
        url = f"unix://{own.socket_file}"

    async def victim(query):
        return Answer(network.predict(query.x).argmax(axis=1))

    stores = [open_store(url) for _ in range(2)]
    workers = [ControlLog(store, lambda: 7.0) for store in stores]
    layers = [
        watching(Prada(0.95), "prada", store, worker.alarms) for store, worker in zip(stores, workers, strict=True)
    ]
    queries = [Query("bad", thief[at : at + 20], 0.0) for at in range(0, 500, 20)]
    await asyncio.gather(*[observed(layers[i % 2], query, victim) for i, query in enumerate(queries)])
    for layer, worker in zip(layers, workers, strict=True):
        await worker.catch_up()
        await layer.account("bad").catch_up()
    once = [event for event in workers[0].audit if event["do"] == "raise alarm"]
    states = {dump(layer.account("bad").state) for layer in layers}
    found = layers[0].account("bad").state.alarm
    await workers[0].alarms.clear("bad", "m", "prada", "root")
    await observed(layers[0], queries[1], victim)
    await observed(layers[1], queries[0], victim)  # this worker does not know yet, as a request under way
    await workers[1].catch_up()
    await layers[0].account("bad").catch_up()
    assert {layer.account("bad").state.rows for layer in layers} == {40}
    cleared = workers[1].alarms.all()
    for store in stores:
        await store.close()
    assert len(states) == 1 and cleared == []
    assert [(event["row"], event["statistic"]) for event in once] == [found[:2]]


def test_a_slowed_account_waits_longer_each_time(config, thief):
    with local_server(watched(config, "slow")) as server:
        raised(server, thief)
        key = asyncio.run(ControlLog(server.store, server.clock).accounts.add_key("bad", "t"))
        headers = {"Authorization": f"Bearer {key}"}
        body = {"instances": thief[:2].tolist()}
        begun, waits = server.clock.now, []
        for _ in range(6):
            answer = server.client.post("/v1/models/watched:predict", json=body, headers=headers)
            assert answer.status_code == 200 and answer.headers["RateLimit-Policy"] == '"slowed";q=1'
            reply = server.client.post("/v1/models/watched:predict", json=body, headers=headers)
            assert reply.status_code == 429
            waits.append(int(reply.headers["Retry-After"]))
            assert reply.headers["RateLimit"] == answer.headers["RateLimit"] == f'"slowed";r=0;t={waits[-1]}'
            server.clock.sleep(waits[-1] - 0.5)
            assert server.client.post("/v1/models/watched:predict", json=body, headers=headers).status_code == 429
            server.clock.sleep(0.5)
        assert waits == [1, 1, 2, 4, 8, 16] and server.clock.now - begun == sum(waits)


@pytest.mark.parametrize("digits", [None, 1])
def test_a_coarsened_account_is_told_less(config, network, thief, digits):
    options = "" if digits is None else f", digits = {digits}"
    with local_server(watched(config, "coarsen", options)) as server:
        bad = raised(server, thief)
        other = server.endpoint("watched", "free", "other")
        told, full = bad(thief[:20]), other(thief[:20])
        np.testing.assert_array_equal(told.labels, full.labels)
        np.testing.assert_allclose(full.probs, network.predict(thief[:20]), atol=1e-5)
        if digits is None:
            assert np.isnan(told.probs).all()
        else:
            np.testing.assert_array_equal(told.probs, full.probs.round(digits))


def test_a_deceived_account_is_told_shuffled_labels_the_same_way_again(config, thief):
    with local_server(watched(config, "deceive")) as server:
        bad = raised(server, thief)
        full = server.endpoint("watched", "free", "other")(thief[:60])
        told, again = bad(thief[:60]), bad(thief[:60])
        np.testing.assert_array_equal(told.probs, again.probs)
        np.testing.assert_array_equal(told.labels, told.probs.argmax(axis=1))
        assert 0.15 < (told.labels == full.labels).mean() < 0.55


def test_an_alarm_may_only_be_logged(config, thief):
    with local_server(watched(config, "log")) as server:
        bad = raised(server, thief)
        np.testing.assert_array_equal(
            bad(thief[:60]).probs, server.endpoint("watched", "free", "other")(thief[:60]).probs
        )


@pytest.mark.parametrize("open_", [False, True])
def test_a_store_that_goes_away_fails_closed_unless_the_operator_says_open(
    config, network, thief, monkeypatch, open_, caplog
):
    with local_server(watched(config, options=", open = true" if open_ else "")) as server:
        bad = server.endpoint("watched", "free", "bad")
        append = server.store.append

        async def away(log, *rest, **named):
            if log.startswith("watch/"):
                raise Refused("the store is unavailable", status=503, retry_after=1)
            return await append(log, *rest, **named)

        monkeypatch.setattr(server.store, "append", away)
        if open_:
            np.testing.assert_array_equal(bad(thief[:3]).labels, network.predict(thief[:3]).argmax(axis=1))
            assert "rows of account bad were not logged: the store is unavailable" in caplog.text
            return
        with pytest.raises(Refused) as refused:
            bad(thief[:3])
        assert (refused.value.status, refused.value.retry_after) == (503, 1)
        levels = asyncio.run(server.store.levels("bad"))
        assert levels["watched/ledger/rows"].level == 0  # it was given back


def test_a_thousand_accounts_are_watched_by_one_server(config, network, thief, monkeypatch):
    monkeypatch.setattr(module, "_HELD", 100 * 2**14)  # the states of less than a hundred
    rng = np.random.default_rng(2)
    asked = {f"a{i}": rng.integers(0, 256, (20, *SHAPE)).astype(np.float32) / np.float32(255) for i in range(1000)}
    thieves = {name: thief[at:] for at, name in enumerate(("a3", "a500", "a996"))}
    asked |= thieves
    server = Local(watched(config, "log"))
    service = server.app.service
    deployed = service.of_plan("free")["watched"]
    layer = deployed.layers[-1].layer

    async def ask(name, x):
        while True:
            try:
                return await service.ask(Caller(Account(name, "free"), service.control.position), deployed, x)
            except VersionConflict:  # an alarm was raised meanwhile
                await service.catch_up()

    async def script():
        for turn in range(2):  # in the second nobody's state is at hand any more
            for first in range(0, 1000, 50):
                names = list(asked)[first : first + 50]
                await asyncio.gather(*(ask(name, np.array_split(asked[name], 2)[turn]) for name in names))
                assert layer._held <= module._HELD
        assert len(layer._accounts) < 100
        for name in ("a0", "a250", "a999", *thieves):
            await layer.account(name).catch_up()
            detector = Prada(0.95)
            said = network.predict(asked[name]).argmax(axis=1)
            expected = detector.observe(detector.begin(), asked[name], said)
            assert dump(layer.account(name).state) == dump(expected)
        await server.store.close()
        return {alarm.account: alarm.row for alarm in service.control.alarms.all()}

    assert asyncio.run(script()) == {name: said_on_arrays(network, x).row for name, x in thieves.items()}
    raw = sum(x.nbytes if name in thieves else x.size for name, x in asked.items())
    kept = sum(path.stat().st_size for path in (config.parent / "state").glob("range.sqlite*"))
    assert kept < 2 * raw
