"""Accounts that connect from addresses of their own, or through a proxy."""

import threading
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from fake_server import FakeServer

from attacker.command import main
from attacker.transports.ways import client, ways
from wire import BadInput
from wire.http import Endpoint
from zoo.data.pool import Pool


@pytest.fixture
def server():
    found = FakeServer(lambda x: np.tile(np.float32([0.3, 0.7]), (len(x), 1)), (4,), ("a", "b"))
    with found:
        peers, verify = [], found._server.verify_request

        def note(request, address):
            peers.append(address[0])
            return verify(request, address)

        found._server.verify_request = note
        found.peers = peers
        yield found


def test_accounts_connect_from_addresses_in_turn(server, tmp_path):
    (tmp_path / "keys").write_text("secret-key\n")
    (tmp_path / "from").write_text("127.0.7.1\n\n127.0.8.1\n")
    Pool(np.random.default_rng(0).random((20, 4), np.float32)).save(tmp_path / "pool.npz")
    flags = [
        "--url",
        server.url,
        "--key",
        "secret-key",
        "--budget",
        "8",
        "--quiet",
        "--epochs",
        "1",
    ]
    files = ["--pool", str(tmp_path / "pool.npz"), "--out", str(tmp_path / "out")]
    main(["knockoff", "--family", "softmax", *flags, *files, "--from-prefixes", str(tmp_path / "from")])
    assert set(server.peers) == {"127.0.7.1"} and server.rows == 8


def test_each_client_has_its_own_address(server):
    x = np.zeros((2, 4), np.float32)
    for way in ("127.0.9.1", "127.0.9.2", "127.0.200.1"):
        server.peers.clear()
        with closing(Endpoint(server.url, model="m", key="secret-key", client=client(way))) as endpoint:
            endpoint(x)
        assert set(server.peers) == {way}


def test_a_proxy_is_asked_in_the_clients_place(server):
    asked = []

    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(502)

        def log_message(self, *arguments):
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as proxy:
        threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        with client(f"http://127.0.0.1:{proxy.server_address[1]}") as through:
            assert through.get(f"{server.url}/v2").status_code == 502
        proxy.shutdown()
    assert asked == [f"{server.url}/v2"] and server.peers == []


@pytest.mark.parametrize(
    ("content", "fault"), [("", "no lines"), ("10.0.0.0/8\n", "neither an address"), ("nonsense\n", "neither")]
)
def test_a_file_of_something_else_is_refused(tmp_path, content, fault):
    (tmp_path / "from").write_text(content)
    with pytest.raises(BadInput, match=fault):
        ways(tmp_path / "from")
    with pytest.raises(BadInput, match="--from-prefixes"):
        ways(tmp_path / "missing")
