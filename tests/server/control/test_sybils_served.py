"""The monitor across accounts at a live API: a theft over two keys, beside harmless accounts."""

import asyncio

import numpy as np
import pytest
from parts import SHAPE, Local, local_server

from wire import BadInput, Refused
from zoo.data import Pool

WATCHED = """
state = "state"
[plans.free]
[plans.admin]
admin = true
[[victims]]
name = "watched"
folder = "net"
engine = "torch"
max_rows = 64
defenses = [{ type = "sybils", reference = "REFERENCE", ratio = 0.6, share = 0.01, reaction = "refuse" }]
"""


def images(n, rng):
    return rng.integers(0, 256, (n, *SHAPE)).astype(np.float32) / np.float32(255)


@pytest.fixture
def watched(config):
    Pool(images(500, np.random.default_rng(1))).save(config.parent / "reference.npz")
    config.write_text(WATCHED.replace("REFERENCE", str(config.parent / "reference.npz")))
    return config


@pytest.fixture
def thief():
    """Rows as JbDA sends them: seeds, then steps of one length from earlier rows."""
    rng = np.random.default_rng(0)
    x = images(50, rng)
    while len(x) < 400:
        more = x + np.float32(0.1) * rng.choice([-1, 1], x.shape).astype(np.float32)
        x = np.concatenate([x, more[rng.permutation(len(x))].clip(0, 1)])
    return x[:400]


def test_both_keys_of_a_theft_are_refused_and_one_that_is_cleared_begins_anew(watched, thief):
    with local_server(watched) as server:
        client, admin = server.client, server.headers("admin", "root")
        thieves = [server.endpoint("watched", "free", name) for name in ("one", "two")]
        good = server.endpoint("watched", "free", "good")
        harmless, asked, out = images(400, np.random.default_rng(2)), {0: 0, 1: 0}, set()
        for i in range(0, 400, 10):
            good(harmless[i : i + 10])
            for number in {0, 1} - out:
                try:
                    thieves[number](thief[i : i + 10][number::2])
                    asked[number] += 5
                except Refused as refused:
                    assert refused.status == 403
                    out.add(number)
        assert out == {0, 1}
        good(thief[:5])  # copies accuse nobody
        found = client.get("/admin/alarms", headers=admin).json()
        assert {alarm["account"] for alarm in found} == {"one", "two"}
        for alarm in found:
            assert alarm["detector"] == "sybils" and alarm["statistic"] > 17
            rows = asked[0 if alarm["account"] == "one" else 1]
            assert rows < alarm["row"] <= rows + 5  # the request in which it was found was not answered
        reply = client.delete("/admin/alarms/one/watched/sybils", headers=admin)
        assert reply.json()["account"] == "one"
        again = 0
        with pytest.raises(Refused, match="raised an alarm"):
            thieves[1](thief[:5])
        with pytest.raises(Refused, match="raised an alarm"):
            for i in range(100, 400, 5):
                thieves[0]((thief[i : i + 5] + np.float32(0.02)).clip(0, 1))
                again += 5
        assert 5 <= again <= 60
        alarms = {alarm["account"]: alarm for alarm in client.get("/admin/alarms", headers=admin).json()}
        assert set(alarms) == {"one", "two"} and again < alarms["one"]["row"] <= again + 5


@pytest.mark.parametrize(("shape", "fault"), [(None, "no such file"), ((3, 8, 8), "rows of shape")])
def test_a_reference_that_is_not_there_or_not_the_victims_is_found_at_start(watched, shape, fault):
    reference = watched.parent / "reference.npz"
    reference.unlink()
    if shape:
        Pool(np.zeros((2, *shape), np.float32)).save(reference)
    with pytest.raises(BadInput, match=fault):
        asyncio.run(Local(watched).app.service.begin())
