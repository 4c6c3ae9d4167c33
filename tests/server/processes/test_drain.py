"""A server that is told to end answers what was asked, and says so to whom asks on."""

import asyncio
import json
import signal
import socket
import time

import httpx
import pytest
from parts import configured, keys_of_new, serving

from defenses.store import open_store
from server.settings import read_settings

BODY = json.dumps({"instances": [[[[0.5] * 8] * 8]]}).encode()


@pytest.fixture
def drained(tmp_path, network, cache):
    """Starts a server that drains for some seconds: its address, its process, and an account's headers."""
    started = []

    def start(seconds):
        config = configured(tmp_path, network, cache)
        config.write_text(f"drain_seconds = {seconds}\n" + config.read_text())
        (key,) = keys_of_new(config, someone="paying")
        started.append(serving("--config", config, cwd=config.parent))
        return (*started[0].__enter__(), {"Authorization": f"Bearer {key}"})

    yield start
    started[0].__exit__(None, None, None)


def half_sent(url, headers):
    """Begins a request, and returns its connection and what is still to be sent."""
    host, _, port = url.removeprefix("http://").partition(":")
    connection = socket.create_connection((host, int(port)))
    connection.settimeout(10)
    key = headers["Authorization"]
    head = f"POST /v1/models/open:predict HTTP/1.1\r\nHost: localhost\r\nAuthorization: {key}\r\n"
    connection.sendall(f"{head}Content-Length: {len(BODY)}\r\n\r\n".encode() + BODY[:50])
    return connection, BODY[50:]


def ended(process, within):
    begun = time.monotonic()
    process.wait(within)
    return time.monotonic() - begun


def test_what_was_asked_is_answered_and_what_is_asked_is_refused(drained, tmp_path):
    url, process, headers = drained(3)
    with httpx.Client(base_url=url, headers=headers) as client:
        assert client.get("/v2/health/ready").status_code == 200  # leaves a connection open
        connection, missing = half_sent(url, headers)
        time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        for reply in (
            client.get("/v2/health/ready"),
            client.post("/v1/models/open:predict", content=BODY),
            client.post(
                "/v2/models/open/infer", content=b" " * 1_000_000
            ),  # a closed connection would lose the answer
        ):
            assert reply.status_code == 503 and reply.headers["Connection"] == "close"
            assert reply.headers["Retry-After"] == "1"
        with connection:
            connection.sendall(missing)
            answer = b""
            while part := connection.recv(1 << 16):  # and then the connection ends
                answer += part
        assert answer.startswith(b"HTTP/1.1 200") and b'"predictions"' in answer
    assert ended(process, 20) > 1 and process.returncode == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)

    async def bill():
        store = open_store(read_settings(tmp_path / "range.toml").store_url())
        try:
            return {name: level.level for name, level in (await store.levels("someone")).items()}
        finally:
            await store.close()

    assert asyncio.run(bill())["open/ledger/rows"] == 1


def test_a_second_signal_ends_at_once(drained):
    url, process, headers = drained(60)
    connection, _ = half_sent(url, headers)
    with connection:
        process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert ended(process, 20) < 5


def test_who_presses_ctrl_c_does_not_wait(drained):
    url, process, _ = drained(60)
    process.send_signal(signal.SIGINT)
    assert ended(process, 20) < 5
    assert f"Serving 3 models at {url} - docs at {url}/docs" in process.stdout.read().decode()
