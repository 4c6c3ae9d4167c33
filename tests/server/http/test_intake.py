"""What one account, and all together, may make the server hold and refuse."""

import contextlib
import socket
import time

import httpx
import numpy as np
import psutil
import pytest
from bodies import BODY, Costs
from parts import keys_of_new, serving

from server.http.intake import REST, STRANGERS, Intake
from server.settings import Settings
from wire import Malformed, Refused
from wire.http import Endpoint
from wire.local import Clock
from zoo import folder
from zoo.families import FAMILIES
from zoo.network import Network


def settings(**more):
    return Settings(plans={"free": {}}, victims=[{"name": "open", "folder": "none"}], **more)


@pytest.mark.parametrize("error", [Malformed("so"), Refused("so", status=413), Refused("so", status=429)])
def test_refusals_are_limited_and_the_limit_refills(error):
    clock = Clock(1e6)
    intake = Intake(settings(refusals_burst=3, refusals_per_second=0.5), clock)

    def refuse(account="a"):
        with contextlib.suppress(type(error)), intake.admit(account):
            raise error

    for _ in range(3):
        refuse()
    with pytest.raises(Refused, match="too many requests of this account were refused") as refused:
        intake.admit("a")
    assert refused.value.status == 429 and refused.value.retry_after == pytest.approx(2)
    intake.admit("b")
    clock.now += 2
    intake.admit("a")
    refuse()
    with pytest.raises(Refused):
        intake.admit("a")
    clock.now += 100
    for _ in range(3):
        refuse()
    with pytest.raises(Refused):
        intake.admit("a")


def test_requests_that_come_together_are_counted_one_by_one():
    intake = Intake(settings(refusals_burst=3), Clock(1e6))
    read = 0

    def fail():
        nonlocal read
        read += 1
        raise Malformed("so")

    for held in [intake.admit("a") for _ in range(10)]:
        with contextlib.suppress(Malformed, Refused), held:
            held.read(fail)
    assert read == 3


def test_a_refusal_that_took_long_counts_as_many():
    clock = Clock(1e6)
    intake = Intake(settings(refusals_burst=100, refusals_per_second=5), clock)

    def slow():
        end = time.thread_time() + 0.06
        while time.thread_time() < end:
            pass
        raise Malformed("so")

    refused = 0
    for _ in range(10):
        with contextlib.suppress(Malformed, Refused), intake.admit("a") as held:
            refused += 1
            held.read(slow)
    assert refused == 2
    clock.now += 6  # 30 milliseconds' worth
    intake.admit("a")


def test_the_time_that_others_had_the_processor_does_not_count():
    intake = Intake(settings(refusals_burst=100, refusals_per_second=5), Clock(1e6))

    def waits():
        time.sleep(0.06)
        raise Malformed("so")

    for _ in range(5):
        with contextlib.suppress(Malformed), intake.admit("a") as held:
            held.read(waits)


def test_what_is_answered_or_fails_on_the_server_s_side_is_no_refusal():
    intake = Intake(settings(refusals_burst=1), Clock(1e6))
    for error in (None, Refused("away", status=503), RuntimeError(), ConnectionError()):
        with contextlib.suppress(Exception), intake.admit("a"):
            if error is not None:
                raise error
    intake.admit("a")


def test_bytes_are_limited_by_account_and_in_all():
    intake = Intake(settings(account_bodies=2000, all_bodies=3000), Clock(1e6))
    with intake.admit("a") as first, intake.admit("a") as second, intake.admit("b") as other:
        first.more(1500)
        with pytest.raises(Refused, match="more than 2000 bytes") as refused:
            second.more(600)
        assert refused.value.status == 429 and refused.value.retry_after == 1
        second.more(-600)
        with pytest.raises(Refused, match="more than 3000 bytes") as refused:
            other.more(1600)
        assert refused.value.status == 503 and refused.value.retry_after == 1
    with intake.admit("c") as third:
        third.more(2000)


def test_refused_requests_are_answered_429_before_their_body_is_read(tmp_path):
    costs = Costs(tmp_path, refusals_burst=5, refusals_per_second=0.01)
    path = "/v2/models/table/infer"
    statuses = [costs.ask(path, b"{")[0] for _ in range(5)]
    assert statuses == [400] * 5

    async def unread():
        raise AssertionError("the body was read")

    bearer = [("Authorization", f"Bearer {costs.keys['free']}"), ("Content-Length", 9)]
    status, said = costs.loop.run_until_complete(costs.send(path, unread, bearer))
    assert status == 429 and b"too many requests of this account were refused" in said
    assert costs.ask(path, BODY, plan="admin")[0] == 200
    costs.close()


def test_a_refusal_rests_once_too_many_came_before_it():
    clock = Clock(1e6)
    intake = Intake(settings(refusals_burst=3, refusals_per_second=0.5), clock)
    for _ in range(3):
        assert intake.rest("a") == 0
        intake.refused("a")
    assert intake.rest("a") == REST and intake.rest("b") == intake.rest(STRANGERS) == 0
    clock.now += 2
    assert intake.rest("a") == 0


@pytest.mark.parametrize("key", [None, "unknown"])
def test_clients_without_a_key_share_a_limit_of_refusals_and_wait_longer_beyond_it(tmp_path, monkeypatch, key):
    costs = Costs(tmp_path, refusals_burst=5, refusals_per_second=0.01)
    rests = []

    async def rest(seconds):
        rests.append(seconds)

    monkeypatch.setattr("server.http.application.asyncio.sleep", rest)
    if key is not None:
        costs.keys["free"] = key
    asked = [costs.ask("/v2/models/table/infer", BODY, plan=key and "free")[0] for _ in range(7)]
    assert asked == [401] * 7 and rests == [REST] * 3  # the fifth empties the bucket
    costs.ask("/nowhere", plan=None, method="GET")
    assert len(rests) == 4
    assert costs.ask("/v2/health/live", plan=None, method="GET")[0] == 200
    assert costs.ask("/v2/models/table/infer", BODY, plan="admin")[0] == 200 and len(rests) == 4
    costs.close()


def test_a_plain_request_s_refusal_is_held_back_as_well(tmp_path):
    folder.save(Network.new(FAMILIES["softmax"](), (14,), tuple("ab"), seed=0, device="cpu"), tmp_path / "net")
    config = tmp_path / "range.toml"
    config.write_text(
        'state = "state"\nrefusals_burst = 3\nrefusals_per_second = 0.001\n'
        '[plans.free]\n[[victims]]\nname = "small"\nfolder = "net"\n'
    )
    with serving("--config", config, cwd=tmp_path) as (url, _):
        (key,) = keys_of_new(config, one="free")
        taken = []
        with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}) as client:
            for _ in range(5):
                begun = time.monotonic()
                status = client.post("/v2/models/small/infer", content=b"{").status_code
                taken.append((status, time.monotonic() - begun))
    assert [status for status, _ in taken] == [400] * 3 + [429] * 2
    assert min(seconds for _, seconds in taken[2:]) > 0.9 * REST


BIG = """
state = "state"
[plans.free]
[[victims]]
name = "big"
folder = "net"
max_rows = 1400
"""
UNFINISHED = 60 * 2**20


@pytest.fixture(scope="module")
def big(tmp_path_factory):
    """A server whose model takes rows of 48 KiB, so that bodies of 64 MiB are read: its URL, keys and process."""
    path = tmp_path_factory.mktemp("big")
    network = Network.new(FAMILIES["softmax"](), (3, 64, 64), tuple("ab"), seed=0, device="cpu")
    folder.save(network, path / "net")
    (path / "range.toml").write_text(BIG)
    with serving("--config", path / "range.toml", cwd=path) as (url, process):
        yield url, keys_of_new(path / "range.toml", one="free", two="free"), psutil.Process(process.pid)


def test_unfinished_bodies_take_no_more_memory_than_an_account_may(big):
    url, (key, other), process = big
    before = process.memory_info().rss
    host, _, port = url.removeprefix("http://").partition(":")
    head = f"POST /v2/models/big/infer HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n"
    head += f"Content-Length: {UNFINISHED + 1}\r\n\r\n"
    with contextlib.ExitStack() as stack:
        connections = []
        for _ in range(12):
            connection = stack.enter_context(socket.create_connection((host, int(port)), 60))
            with contextlib.suppress(OSError):  # a connection that was refused may be closed
                connection.sendall(head.encode() + bytes(UNFINISHED))
            connections.append(connection)
        time.sleep(3)  # the server gives bodies to the application within a second
        held = process.memory_info().rss - before
        refused = 0
        for connection in connections:
            connection.settimeout(0.2)
            with contextlib.suppress(OSError):
                refused += connection.recv(1 << 16).startswith(b"HTTP/1.1 429")
    assert refused >= 9 and held < 350 * 2**20  # without a limit, 720 MiB
    rows = np.zeros((2, 3, 64, 64), np.float32)
    time.sleep(1)
    for secret in (key, other):
        assert asked(url, secret, rows) == 2


def asked(url, key, rows):
    with httpx.Client() as client:
        return len(Endpoint(url, model="big", key=key, client=client)(rows))


def test_a_long_trailer_is_cut_off_before_it_costs_anything(big):
    url, (key, _), process = big
    host, _, port = url.removeprefix("http://").partition(":")
    head = f"POST /v2/models/big/infer HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n"
    head += "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX-Trailer: "
    begun = sum(process.cpu_times()[:2])
    with socket.create_connection((host, int(port)), 60) as connection:
        connection.sendall(head.encode())
        with contextlib.suppress(OSError):
            for _ in range(100):
                connection.sendall(b"x" * 2**20)
        connection.settimeout(10)
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(1) == b""
    assert sum(process.cpu_times()[:2]) - begun < 1


def test_heads_without_bodies_hold_nothing_of_others(config, rows):
    """An account that announces bodies and sends none leaves room for the others, on the short way too."""
    config.write_text("account_bodies = 1_000_000\nall_bodies = 1_500_000\n" + config.read_text())
    greedy, other = keys_of_new(config, greedy="free", other="free")
    head = f"POST /v1/models/open:predict HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {greedy}\r\n"
    with serving("--config", config, cwd=config.parent) as (url, _), contextlib.ExitStack() as ending:
        host, _, port = url.removeprefix("http://").partition(":")
        for _ in range(20):
            connection = ending.enter_context(socket.create_connection((host, int(port))))
            connection.sendall(f"{head}Content-Length: 200000\r\n\r\n".encode())
        for _ in range(3):
            reply = httpx.post(
                f"{url}/v1/models/open:predict",
                json={"instances": rows[:1].tolist()},
                headers={"Authorization": f"Bearer {other}"},
            )
            assert reply.status_code == 200, reply.text
