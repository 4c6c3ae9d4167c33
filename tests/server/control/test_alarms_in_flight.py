"""An alarm concerns the request in which it falls, and those that were sent beside it."""

import asyncio

import numpy as np
import pytest
from parts import SHAPE, Local, local_server

from defenses import Prada
from server.control.accounts import Account
from server.deployment.service import Caller
from wire import Answer, Refused

WATCHED = """
state = "state"
account_rows = 3000
[plans.free]
[plans.admin]
admin = true
[[victims]]
name = "watched"
folder = "net"
engine = "torch"
max_rows = 1024
defenses = [LAYERS { type = "prada", delta = 0.95, reaction = "REACTION" OPTIONS }]
"""
MARKED = '{ type = "dawn", rate = 0.5 },'


def watched(config, reaction="refuse", options="", layers="", **more):
    text = WATCHED.replace("REACTION", reaction).replace("OPTIONS", options).replace("LAYERS", layers)
    for name, value in more.items():
        text = text.replace(f"{name} = 3000", f"{name} = {value}")
    config.write_text(text)
    return config


def alarm_on_arrays(network, x):
    detector = Prada(0.95)
    return detector.observe(detector.begin(), x, network.predict(x).argmax(axis=1)).alarm


@pytest.fixture
def synthetic():
    """Twelve requests of 200 rows of a thief who makes rows from earlier ones."""
    rng = np.random.default_rng(3)
    x = rng.integers(0, 256, (2400, *SHAPE)).astype(np.float32) / np.float32(255)
    steps = np.float32(0.1) * rng.choice([-1, 1], (2340, *SHAPE))
    x[60:] = (x[rng.integers(0, 60, 2340)] + steps).astype(np.float32)
    return x.clip(0, 1)


async def ask(server, name, x, request_id=None):
    """Asks a server without its HTTP; returns the answer or the refusal."""
    service = server.app.service
    deployed = service.of_plan("free")["watched"]
    try:
        caller = Caller(Account(name, "free"), service.control.position)
        return (await service.ask(caller, deployed, x, request_id))[0]
    except Refused as refused:
        return refused


async def rows_billed(server, name="bad"):
    levels = await server.store.levels(name)
    return int(levels["watched/ledger/rows"].level) if "watched/ledger/rows" in levels else 0


def test_requests_sent_at_once_are_all_refused_not_billed_and_logged(config, network, synthetic):
    expected = alarm_on_arrays(network, synthetic)
    assert expected.row < 200

    async def script(server):
        outcomes = await asyncio.gather(*[ask(server, "bad", x) for x in np.split(synthetic, 12)])
        monitor = server.app.service.of_plan("free")["watched"].layers[-1].layer
        state = monitor.account("bad").state
        found = outcomes, state.rows, await rows_billed(server), server.app.service.control.alarms.all()
        await server.store.close()
        return found

    outcomes, rows, billed, (alarm,) = asyncio.run(script(Local(watched(config))))
    assert [getattr(outcome, "status", 200) for outcome in outcomes] == [403] * 12
    assert (rows, billed, alarm.row) == (2400, 0, expected.row)


def test_two_workers_tell_no_more_than_the_rows_that_were_logged_before_the_alarm(config, network, synthetic):
    async def script(servers):
        parts = enumerate(np.split(synthetic, 120))
        outcomes = await asyncio.gather(*[ask(servers[i % 2], "bad", x) for i, x in parts])
        monitor = servers[0].app.service.of_plan("free")["watched"].layers[-1].layer
        account = monitor.account("bad")
        await account.catch_up()
        for server in servers:
            await server.app.service.catch_up()
            assert len(server.app.service.control.alarms.all()) == 1
        found = [outcome for outcome in outcomes if isinstance(outcome, Answer)]
        row, billed = account.state.alarm.row, await rows_billed(servers[0])
        for server in servers:
            await server.store.close()
        return sum(map(len, found)), row, billed

    told, row, billed = asyncio.run(script([Local(watched(config)), Local(config)]))
    assert told == billed < row


def test_an_alarm_that_falls_while_an_answer_is_changed_refuses_it(config, network, synthetic):
    """The other request has passed the monitor, but waits in a layer outside it."""

    async def script(server):
        ledger = server.app.service.of_plan("free")["watched"].layers[0].layer._ledger
        entered, go_on, add = asyncio.Event(), asyncio.Event(), ledger.add

        async def slowly(name, marks):
            entered.set()
            await go_on.wait()
            await add(name, marks)

        ledger.add = slowly
        first = asyncio.create_task(ask(server, "bad", synthetic[:50]))
        await asyncio.wait_for(entered.wait(), 30)
        second = await ask(server, "bad", synthetic[50:250])
        go_on.set()
        found = await first, second, await rows_billed(server)
        await server.store.close()
        return found

    first, second, billed = asyncio.run(script(Local(watched(config, layers=MARKED))))
    assert (first.status, second.status, billed) == (403, 403, 0)


@pytest.mark.parametrize("digits", [None, 1])
def test_rows_from_the_alarm_on_are_coarsened_and_those_before_it_are_not(config, network, synthetic, digits):
    expected = alarm_on_arrays(network, synthetic)
    options = "" if digits is None else f", digits = {digits}"
    with local_server(watched(config, "coarsen", options)) as server:
        before = expected.row - 1
        bad = server.endpoint("watched", "free", "bad")
        told = [bad(synthetic[at : at + 100]) for at in (0, 100)]
        probs = np.concatenate([answer.probs for answer in told])
    said = network.predict(synthetic[:200])
    np.testing.assert_allclose(probs[:before], said[:before], atol=1e-5)
    if digits is None:
        assert np.isnan(probs[before:]).all()
    else:
        np.testing.assert_allclose(probs[before:], said[before:].round(digits), atol=1e-5)


def test_rows_from_the_alarm_on_are_shuffled_and_get_no_mark(config, network, synthetic):
    expected = alarm_on_arrays(network, synthetic)
    with local_server(watched(config, "deceive", layers=MARKED)) as server:
        admin = server.headers("admin", "root")
        told = server.endpoint("watched", "free", "bad")(synthetic[:400])
        server.client.post("/admin/models/watched/marks/commit", headers=admin)
        marks = server.client.get("/admin/models/watched/marks/bad", headers=admin).json()["entries"]
        again = server.endpoint("watched", "free", "other")(synthetic[: expected.row - 1])
    before, labels = expected.row - 1, network.predict(synthetic[:400]).argmax(axis=1)
    np.testing.assert_array_equal(told.probs[:before], again.probs)  # marked as for everybody
    assert len(marks) == (told.labels != labels)[:before].sum() > 20
    assert 0.15 < (told.labels == labels)[before:].mean() < 0.55


def test_who_is_slowed_in_the_middle_of_a_request_asks_again(config, network, synthetic):
    with local_server(watched(config, "slow")) as server:
        body, headers = {"instances": synthetic[:300].tolist()}, server.headers("free", "bad")
        url = "/v1/models/watched:predict"
        reply = server.client.post(url, json=body, headers=headers)
        assert (reply.status_code, reply.headers["Retry-After"]) == (429, "1")
        assert asyncio.run(rows_billed(server)) == 0
        server.clock.sleep(1)
        assert server.client.post(url, json=body, headers=headers).status_code == 200
        assert server.client.post(url, json=body, headers=headers).status_code == 429


def test_an_account_may_have_only_so_many_rows_in_flight(config, synthetic):
    async def script(server):
        alone = await ask(server, "good", synthetic[:500])
        parts = [ask(server, name, synthetic[:300]) for name in ("good", "good", "good", "other")]
        outcomes = await asyncio.gather(*parts)
        after = await ask(server, "good", synthetic[:300])
        billed = await rows_billed(server, "good")
        await server.store.close()
        return [getattr(outcome, "status", 200) for outcome in (alone, *outcomes, after)], billed

    local = Local(watched(config, "log", account_rows=400))
    assert asyncio.run(script(local)) == ([200, 200, 429, 429, 200, 200], 1100)
