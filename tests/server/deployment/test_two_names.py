"""Weights under two names: comparing them tells nothing, and an alarm at one holds at the other."""

import asyncio

import numpy as np
import pytest
from parts import SHAPE, Local, local_server

from defenses import Prada
from defenses.watermarks.key import WatermarkKey
from server.deployment.stack import layer_secret

VICTIM = """
[[victims]]
name = "NAME"
folder = "net"
engine = "torch"
max_rows = 64
defenses = [LAYERS]
"""
DAWN = '{ type = "dawn", rate = 0.3 }'


def config_of(config, **victims):
    head = 'state = "state"\n[plans.free]\n[plans.admin]\nadmin = true\n'
    each = [VICTIM.replace("NAME", name).replace("LAYERS", layers) for name, layers in victims.items()]
    config.write_text(head + "".join(each))
    return config


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (64, *SHAPE)).astype(np.float32) / np.float32(255)


@pytest.mark.parametrize("layer", [DAWN, '{ type = "gaussian_noise", sigma = 0.1 }'])
def test_both_tell_the_same(config, network, images, layer):
    with local_server(config_of(config, one=layer, two=layer)) as server:
        one, two = (server.endpoint(name, "free")(images) for name in ("one", "two"))
    np.testing.assert_array_equal(one.probs, two.probs)
    assert not np.allclose(one.probs, network.predict(images), atol=1e-3)


def test_noise_of_another_strength_is_other_noise(config, network, images):
    """One and two times the same noise would tell it."""
    layers = (f'{{ type = "gaussian_noise", sigma = {sigma} }}' for sigma in (0.001, 0.002))
    with local_server(config_of(config, **dict(zip(("one", "two"), layers, strict=True)))) as server:
        one, two = (server.endpoint(name, "free")(images).probs for name in ("one", "two"))
    said = network.predict(images)
    between = (said > 0.05) & (said < 0.95)  # where nothing is clipped
    guess = 2 * one - two
    assert between.sum() > 20 and np.abs(guess - said)[between].mean() > 0.001


def test_rows_at_both_are_watched_together_and_an_alarm_holds_at_both(config, network, thief):
    labels = network.predict(thief).argmax(axis=1)
    expected = Prada(0.95).observe(Prada(0.95).begin(), thief, labels).alarm
    watched = '{ type = "prada", delta = 0.95, reaction = "refuse" }'
    with local_server(config_of(config, one=watched, two=watched, open="")) as server:
        key = server.account("bad", "free")
        ask = {"headers": {"Authorization": f"Bearer {key}"}}
        told = 0
        for at in range(0, len(thief), 10):
            body = {"instances": thief[at : at + 10].tolist()}
            reply = server.client.post(f"/v1/models/{('one', 'two')[at // 10 % 2]}:predict", json=body, **ask)
            if reply.status_code == 403:
                break
            told += 10
        assert told == (expected.row - 1) // 10 * 10
        statuses = [
            server.client.post(f"/v1/models/{name}:predict", json=body, **ask).status_code
            for name in ("one", "two", "open")
        ]
        assert statuses == [403] * 3
        admin = server.headers("admin", "root")
        (alarm,) = server.client.get("/admin/alarms", headers=admin).json()
        assert alarm["row"] == expected.row
        assert server.client.delete("/admin/alarms/bad/one/prada", headers=admin).status_code == 200
        assert server.client.get("/admin/alarms", headers=admin).json() == []
        assert server.client.post("/v1/models/two:predict", json=body, **ask).status_code == 200


def test_marks_that_an_earlier_version_began_keep_its_key(config, network, images):
    def key_told(server):
        opened = server.client.post("/admin/models/one/marks/open", headers=server.headers("admin", "root"))
        return bytes.fromhex(opened.json()["key"])

    with local_server(config_of(config, one=DAWN)) as server:
        service = server.app.service
        former = layer_secret(service._secret, "one", "dawn")  # it depended on the name
        service.of_plan("free")["one"].layers[0].layer._key = WatermarkKey(former)
        marked = server.endpoint("one", "free")(images).probs
        assert key_told(server) == former
    with local_server(config) as server:
        asyncio.run(server.app.service.begin())
        again = server.endpoint("one", "free", "another")(images).probs
    np.testing.assert_array_equal(marked, again)
    with local_server(config_of(config, two=DAWN)) as server:
        other = server.endpoint("two", "free", "third")(images).probs
        assert (other != marked).any()


def test_names_with_the_same_weights_have_one_place(config):
    server = Local(config_of(config, one="", two=""))
    alarms = server.app.service.control.alarms
    assert [alarms.place(name) for name in ("one", "two", "elsewhere")] == ["one", "one", "elsewhere"]
    asyncio.run(server.store.close())
