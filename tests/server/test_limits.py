"""Clients that hold the server up: slow heads, large ones, slow bodies, slow readers and a thousand idlers."""

import contextlib
import http.client
import resource
import socket
import threading
import time

import httpx
import pytest
from parts import configured, keys_of_new, serving

LIMITS = """
max_head = 2048
head_seconds = 1
body_seconds = 1
read_seconds = 2
max_body = 100_000
"""
SLACK = 2.5  # seconds: the server looks once a second, and the machine may be busy
PATH = b"/v2/models/open/infer"


@pytest.fixture(scope="module")
def served(tmp_path_factory, network, cache):
    """A server with small limits: its address, and a key."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    config = configured(tmp_path_factory.mktemp("limits"), network, cache)
    config.write_text(LIMITS + config.read_text())
    with serving("--config", config, cwd=config.parent) as (url, _):
        yield url, keys_of_new(config, someone="free")[0].encode()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def connect(url):
    host, _, port = url.removeprefix("http://").partition(":")
    connection = socket.create_connection((host, int(port)))
    connection.settimeout(10)
    return connection


def rest(connection):
    """Reads until the server closes, and returns what came and how long that took."""
    begun, parts = time.monotonic(), []
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(1 << 16):
            parts.append(part)
    return b"".join(parts), time.monotonic() - begun


def trickle(connection, seconds):
    """Sends a byte now and then, until the server closes."""
    with contextlib.suppress(OSError):
        for _ in range(int(seconds / 0.1)):
            connection.sendall(b"a")
            time.sleep(0.1)


@pytest.mark.parametrize(
    "sent", [b"", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nX: "], ids=["none", "line", "header"]
)
@pytest.mark.parametrize("trickling", [False, True])
def test_a_head_that_does_not_come_is_not_waited_for(served, sent, trickling):
    with connect(served[0]) as connection:
        connection.sendall(sent)
        if trickling:
            threading.Thread(target=trickle, args=(connection, 5), daemon=True).start()
        came, seconds = rest(connection)
    if sent:
        assert came.startswith(b"HTTP/1.1 408")
    else:
        assert came == b"" or came.startswith(b"HTTP/1.1 400")  # letters alone are no request
    assert seconds < 1 + SLACK


def test_a_connection_may_idle_no_longer_between_two_requests(served):
    with connect(served[0]) as connection:
        for _ in range(2):
            connection.sendall(b"GET /v2 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            reply = http.client.HTTPResponse(connection)
            reply.begin()
            assert reply.status == 200 and reply.read()
        assert rest(connection)[1] < 1 + SLACK


@pytest.mark.parametrize("size", [1000, 3000, 100_000])
@pytest.mark.parametrize("pieces", [1, 10])
def test_a_head_may_not_be_larger_than_allowed(served, size, pieces):
    head = b"GET /v2 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Long: "
    head += b"x" * (size - 70) + b"\r\n\r\n"
    step = -(-len(head) // pieces)
    with connect(served[0]) as connection:
        with contextlib.suppress(OSError):  # it closes before all is sent
            for start in range(0, len(head), step):
                connection.sendall(head[start : start + step])
                time.sleep(0.01)
        came, _ = rest(connection)
    if size < 2048:
        assert came.startswith(b"HTTP/1.1 200")
    else:
        assert came.startswith(b"HTTP/1.1 431") or came == b""  # a reset may overtake the answer


def head(key, length, *more):
    lines = [b"POST " + PATH + b" HTTP/1.1", b"Host: localhost", b"Authorization: Bearer " + key, length, *more]
    return b"\r\n".join(lines) + b"\r\n\r\n"


@pytest.mark.parametrize("pieces", [1, 7])
def test_who_offers_another_protocol_is_answered_in_this_one(served, pieces):
    url, key = served
    body = b'{"instances": [' + b"[[" + b",".join([b"[0,0,0,0,0,0,0,0]"] * 8) + b"]]" + b"]}"
    lines = [b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAAP__"]
    request = head(key, b"Content-Length: %d" % len(body), *lines).replace(PATH, b"/v1/models/open:predict") + body
    sent = request * 3 + b"GET /v2 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    step = -(-len(sent) // pieces)
    with connect(url) as connection:
        for start in range(0, len(sent), step):
            connection.sendall(sent[start : start + step])
            time.sleep(0.01)
        came, _ = rest(connection)
    assert came.count(b"HTTP/1.1 200") == 4 and came.count(b'"predictions"') == 3


@pytest.mark.parametrize("encoding", [b"gzip, chunked", b"gzip\r\nTransfer-Encoding: chunked", b"chunked"])
def test_a_body_may_be_chunked_and_no_more(served, encoding):
    url, key = served
    with connect(url) as connection:
        connection.sendall(
            head(key, b"Transfer-Encoding: " + encoding, b"Connection: close") + b"2\r\n{}\r\n0\r\n\r\n"
        )
        came, _ = rest(connection)
    assert came.startswith(b"HTTP/1.1 400") and (b"nvalid HTTP" in came) == (encoding != b"chunked")


def test_a_tunnel_is_not_offered(served):
    with connect(served[0]) as connection:
        connection.sendall(b"CONNECT x:80 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert rest(connection)[0].startswith(b"HTTP/1.1 400")


def test_a_body_that_stops_coming_is_answered_408(served):
    url, key = served
    with connect(url) as connection:
        connection.sendall(head(key, b"Content-Length: 5000") + b"{")
        came, seconds = rest(connection)
    assert came.startswith(b"HTTP/1.1 408") and seconds < 2 + SLACK


def test_a_body_that_does_not_begin_is_answered_408(served):
    url, key = served
    with connect(url) as connection:
        connection.sendall(head(key, b"Content-Length: 5000"))
        came, seconds = rest(connection)
    assert came.startswith(b"HTTP/1.1 408") and came.count(b"HTTP/1.1") == 1 and seconds < 2 + SLACK


@pytest.mark.parametrize("key", [b"unknown", None])
def test_a_body_that_never_ends_is_cut_off_even_when_it_was_answered(served, key):
    url, known = served
    with connect(url) as connection:
        connection.sendall(head(key or known, b"Transfer-Encoding: chunked"))

        def flood():
            with contextlib.suppress(OSError):
                while True:
                    connection.sendall(b"400\r\n" + b" " * 1024 + b"\r\n")
                    time.sleep(0.001)

        thread = threading.Thread(target=flood)
        thread.start()
        came, seconds = rest(connection)
        thread.join(10)
    assert came.startswith(b"HTTP/1.1 401" if key else b"HTTP/1.1 413")
    assert seconds < 2 + SLACK and not thread.is_alive()


def test_trailers_do_not_count_as_nothing(served):
    url, key = served
    with connect(url) as connection:
        connection.sendall(head(key, b"Transfer-Encoding: chunked") + b"2\r\n{}\r\n0\r\n")

        def flood():
            with contextlib.suppress(OSError):
                while True:
                    connection.sendall(b"X-Trailer: " + b"x" * 4000 + b"\r\n")

        thread = threading.Thread(target=flood)
        thread.start()
        _, seconds = rest(connection)
        thread.join(10)
    assert seconds < 2 + SLACK and not thread.is_alive()


def test_an_answer_that_is_not_read_is_not_kept(served):
    url, _ = served
    asked = 2000
    with connect(url) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        request = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
        one = len(httpx.get(f"{url}/openapi.json").content)
        assert one * asked > 30e6  # more than the kernel's buffers hold
        connection.settimeout(1)
        with contextlib.suppress(OSError):
            connection.sendall(request * asked)
        time.sleep(2 + SLACK + 1)
        assert httpx.get(f"{url}/v2/health/ready").status_code == 200
        connection.settimeout(10)
        came, seconds = rest(connection)
    assert len(came) < 1e6 and seconds < 1  # what the kernel held for it is gone as well


def test_a_thousand_idle_connections_leave_others_served(served):
    url, key = served
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(connect(url)) for _ in range(1000)]
        begun = time.monotonic()
        body = {"instances": [[[[0.5] * 8] * 8]]}
        headers = {"Authorization": f"Bearer {key.decode()}"}
        with httpx.Client(base_url=url, headers=headers) as client:
            for _ in range(20):
                assert client.post("/v1/models/open:predict", json=body).status_code == 200
        assert time.monotonic() - begun < 5
        time.sleep(max(0, begun + 1 + SLACK - time.monotonic()))
        for connection in idle:
            connection.settimeout(0.1)
            assert rest(connection)[0] == b""
