"""Where requests come from: what is noted of it, and whom the server believes; by default, nothing is noted."""

import socket
import threading
import time

import httpx
import numpy as np
import pytest
from parts import SHAPE, Local, local_server
from pydantic import ValidationError

from server.control.accounts import Account
from server.http.listener import server
from server.http.origins import Origins, OriginSettings, fingerprint
from wire import Origin

ANN = Account("ann", "free", 7250.0, "hash of a token")
BEHIND = Origins(OriginSettings(proxies=("10.0.0.0/8", "192.168.1.7/32")), b"k" * 32)


def forwarded(hops):
    return {b"x-forwarded-for": hops.encode()}


@pytest.mark.parametrize(
    ("peer", "hops", "client"),
    [
        ("203.0.113.9", "", "203.0.113.9"),
        ("203.0.113.9", "198.51.100.1", "203.0.113.9"),  # no proxy of ours: its header is its own invention
        ("10.1.2.3", "198.51.100.1", "198.51.100.1"),
        ("10.1.2.3", "1.2.3.4, 198.51.100.1, 192.168.1.7", "198.51.100.1"),  # the client wrote the first
        ("10.1.2.3", "198.51.100.1:4711", "198.51.100.1"),
        ("10.1.2.3", "[2001:db8::1]:4711", "2001:db8::1"),
        ("::ffff:10.1.2.3", "2001:db8::1", "2001:db8::1"),
        ("10.1.2.3", "nonsense", "10.1.2.3"),
        ("10.1.2.3", "", "10.1.2.3"),
        (None, "198.51.100.1", "None"),
    ],
)
def test_only_trusted_proxies_are_believed(peer, hops, client):
    assert str(BEHIND.address(peer, forwarded(hops))) == client


def test_addresses_of_a_network_share_a_prefix_and_others_do_not():
    prefixes = [BEHIND.of(ANN, peer, {}).prefix for peer in ("198.51.100.1", "198.51.100.250", "198.51.101.1")]
    assert prefixes[0] == prefixes[1] != prefixes[2]
    six = [BEHIND.of(ANN, peer, {}).prefix for peer in ("2001:db8:0:1::1", "2001:db8:0:ffff::2", "2001:db8:1::1")]
    assert six[0] == six[1] != six[2]
    assert BEHIND.of(ANN, None, {}).prefix == ""


def test_attributes_are_hashed_with_the_key():
    headers = {b"host": b"a", b"user-agent": b"python-httpx/0.28", b"accept": b"*/*"}
    origin = BEHIND.of(ANN, "198.51.100.1", headers)
    assert (origin.plan, origin.opened) == ("free", 7200)
    hashes = (origin.prefix, origin.fingerprint, origin.payment)
    assert len(set(hashes)) == 3 and all(len(value) == 16 for value in hashes)
    other = Origins(OriginSettings(), b"j" * 32).of(ANN, "198.51.100.1", headers)
    assert not set(hashes) & {other.prefix, other.fingerprint, other.payment}
    assert BEHIND.of(Account("bob", "free"), "198.51.100.1", headers).payment == ""


def test_a_fingerprint_is_the_softwares_and_not_the_requests():
    sent = {b"host": b"a", b"user-agent": b"x", b"accept": b"*/*", b"content-length": b"10"}
    again = {**sent, b"content-length": b"999", b"x-request-id": b"7", b"authorization": b"Bearer z"}
    assert fingerprint(sent) == fingerprint({**again, **forwarded("1.2.3.4")})
    assert fingerprint(sent) != fingerprint({**sent, b"user-agent": b"y"})
    assert fingerprint(sent) != fingerprint({name: sent[name] for name in sorted(sent)})  # another order


def test_settings_refuse_what_is_no_network():
    for wrong in ("10.0.0.1/8", "proxy.example"):
        with pytest.raises(ValidationError, match=r"host bits set|does not appear"):
            OriginSettings(proxies=(wrong,))


def noted(app):
    """Collects the origins of the queries that reach the victim's defences."""
    found, add = [], app.service._turns.add

    def note(asking):
        found.append(asking.query.origin)
        add(asking)

    app.service._turns.add = note
    return found


ROWS = {"instances": np.zeros((1, *SHAPE)).tolist()}
PATH = "/v1/models/open:predict"


def test_nothing_is_noted_by_default(config):
    with local_server(config) as api:
        found = noted(api.app)
        assert api.client.post(PATH, json=ROWS, headers=api.headers()).status_code == 200
    assert found == [None]


def test_a_payment_token_outlasts_a_change_of_plan_and_is_kept_as_a_hash(config):
    config.write_text('origins = { proxies = ["127.0.0.1/32"] }\n' + config.read_text())
    with local_server(config) as api:
        found, admin = noted(api.app), api.headers("admin", "root")
        keys = {}
        for name, token in (("one", "cus_1"), ("two", "cus_1"), ("three", "cus_3"), ("four", None)):
            new = {"name": name, "plan": "paying", "payment": token}
            keys[name] = api.client.post("/admin/accounts", json=new, headers=admin).json()["key"]
        api.client.put("/admin/accounts/two/plan", json={"plan": "free"}, headers=admin)
        for key in keys.values():
            headers = {"Authorization": f"Bearer {key}", "X-Forwarded-For": "203.0.113.5"}
            assert api.client.post(PATH, json=ROWS, headers=headers).status_code == 200
        assert "cus_1" not in api.client.get("/admin/audit", headers=admin).text
    one, two, three, four = found
    assert one.payment == two.payment != three.payment and four.payment == "" != three.payment
    assert (one.plan, two.plan) == ("paying", "free") and one.opened == two.opened > 0
    assert len({origin.prefix for origin in found}) == len({origin.fingerprint for origin in found}) == 1


def test_both_ways_of_a_request_note_the_same(config):
    config.write_text('origins = { proxies = ["127.0.0.1/32"] }\n' + config.read_text())
    api = Local(config)
    found, key = noted(api.app), api.account("ann")
    listener = socket.create_server(("127.0.0.1", 0))
    running = server(api.app, api.settings, None, None, lambda: None)
    thread = threading.Thread(target=running.run, args=([listener],), daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}{PATH}"
    headers = {"Authorization": f"Bearer {key}", "X-Forwarded-For": "203.0.113.5"}
    try:
        with httpx.Client(timeout=60) as client:
            for more in ({}, {}, {"Content-Encoding": "identity"}):  # the last is no plain request
                assert client.post(url, json=ROWS, headers={**headers, **more}).status_code == 200
    finally:
        running.should_exit = running.force_exit = True
        running._close_at = time.monotonic()
        thread.join(30)
    assert len(found) == 3 and all(isinstance(origin, Origin) for origin in found)
    assert found[0] == found[1] == found[2]
