"""A request's head is read in one way, on the routes that carry rows and on all others."""

import socket

import httpx
import pytest
from bodies import BODY, CARDS, Costs
from parts import free_port, serving

from server.http import hosts, telemetry
from server.http.telemetry import Telemetry
from server.settings import Settings

TEXT = b'{"instances":[[' + b",".join([b"0"] * 14) + b"]]}"
ROUTES = {  # method, path, body
    "infer": ("POST", "/v2/models/table/infer", BODY),
    "infer of a version": ("POST", "/v2/models/table/versions/1/infer", BODY),
    "predict": ("POST", "/v1/models/table:predict", TEXT),
    "metadata": ("GET", "/v2/models/table", b""),
    "account": ("GET", "/v1/account", b""),
    "administration": ("GET", "/admin/accounts", b""),
    "liveness": ("GET", "/v2/health/live", b""),
    "root": ("GET", "/", b""),
}
TWICE = {
    "Authorization": ("Bearer mlr_other", "Bearer KEY"),
    "Host": ("localhost", "other"),
    "Content-Encoding": ("identity", "gzip"),
    "Content-Type": ("application/json", "application/toml"),
    "Inference-Header-Content-Length": ("0", str(len(BODY))),
    "X-Request-Id": ("a", "b"),
}


@pytest.fixture(scope="module")
def costs(tmp_path_factory):
    server = Costs(tmp_path_factory.mktemp("heads"), refusals_burst=10**6)
    yield server
    server.close()


@pytest.mark.parametrize("name", TWICE)
@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("last", [0, 1])
def test_a_header_that_is_read_is_given_once(costs, name, route, last):
    method, path, body = ROUTES[route]
    key = costs.keys["admin"]

    async def receive():
        return {"type": "http.request", "body": body}

    def ask(*more):
        headers = [("Authorization", f"Bearer {key}"), ("Content-Length", len(body)), *more]
        if name == "Authorization" and more:
            headers = headers[1:]
        return costs.loop.run_until_complete(costs.send(path, receive, headers, method=method))

    assert ask()[0] == 200
    first, second = TWICE[name][last], TWICE[name][1 - last]
    status, said = ask((name, first.replace("KEY", key)), (name, second.replace("KEY", key)))
    assert status == 400 and f"the header {name.lower()} is given 2 times".encode() in said


def test_other_headers_may_be_given_twice(costs):
    async def receive():
        return {"type": "http.request", "body": b""}

    headers = [("Accept", "text/html"), ("Accept", "*/*"), ("Via", "a"), ("Via", "b")]
    assert costs.loop.run_until_complete(costs.send("/v2", receive, headers, method="GET"))[0] == 200


def exchange(url, head, body=b""):
    """Sends bytes, and returns all that comes back until the server closes."""
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), 30) as connection:
        connection.sendall(b"\r\n".join(head) + b"\r\nConnection: close\r\n\r\n" + body)
        parts = []
        while part := connection.recv(1 << 16):
            parts.append(part)
    return b"".join(parts)


@pytest.mark.parametrize(("count", "answered"), [(30, True), (3000, False)])
def test_a_packet_of_requests_is_answered_if_they_are_few(live, count, answered):
    head = b"GET /v2 HTTP/1.1\r\nHost: localhost\r\n"
    last = [b"GET /v2 HTTP/1.1", b"Host: localhost"]
    try:
        came = exchange(live[0], [(head + b"\r\n") * (count - 1) + last[0], last[1]])
    except ConnectionResetError:
        came = b""
    assert came.count(b"HTTP/1.1 200") == (count if answered else 0)


CHUNKED = b"Transfer-Encoding: chunked"


@pytest.mark.parametrize("path", [b"/v2/models/open/infer", b"/v1/models/open:predict", b"/admin/accounts"])
def test_a_key_in_a_trailer_is_no_key(live, path):
    url, key, _ = live
    trailer = b"Authorization: Bearer " + key(f"trailer-{len(path)}", "admin").encode()
    body = b"2\r\n{}\r\n0\r\n" + trailer + b"\r\n\r\n"
    head = [b"POST " + path + b" HTTP/1.1", b"Host: localhost", CHUNKED]
    assert exchange(url, head, body).startswith(b"HTTP/1.1 401")


def test_a_trailer_does_not_change_how_the_body_is_read(live):
    url, key, _ = live
    bearer = b"Authorization: Bearer " + key("honest-trailer").encode()
    data = b'{"instances": [' + b"[" * 2 + b",".join([b"[0,0,0,0,0,0,0,0]"] * 8) + b"]]" + b"]}"
    body = b"%x\r\n" % len(data) + data + b"\r\n0\r\nContent-Encoding: gzip\r\nX-Request-Id: late\r\n\r\n"
    head = [
        b"POST /v1/models/open:predict HTTP/1.1",
        b"Host: localhost",
        bearer,
        CHUNKED,
    ]
    came = exchange(url, head, body)
    assert came.startswith(b"HTTP/1.1 200") and b"late" not in came


@pytest.mark.parametrize(
    ("host", "status"),
    [
        (b"localhost", 200),
        (b"LOCALHOST:8000", 200),
        (b"127.0.0.1", 200),
        (b"127.0.0.1:1", 200),
        (b"[::1]", 200),
        (b"[::1]:8000", 200),
        (b"evil.example", 421),
        (b"evil.example:8000", 421),
        (b"localhost.evil.example", 421),
        (b"evil.example:localhost", 421),
        (b"[::1].evil.example", 421),
        (b"::1", 421),
        (b"", 421),
        (None, 421),
    ],
)
@pytest.mark.parametrize("path", [b"/v2/health/live", b"/v2/models/open/infer"])
def test_a_server_on_the_loopback_answers_to_its_names(live, host, status, path):
    head = [b"GET " + path + b" HTTP/1.1", *([] if host is None else [b"Host: " + host])]
    came = exchange(live[0], head)
    expected = 405 if status == 200 and path.endswith(b"infer") else status
    assert came.startswith(b"HTTP/1.1 %d" % expected)
    assert (b"expected 127.0.0.1, [::1], localhost" in came) == (status == 421)


@pytest.mark.parametrize(
    ("host", "more", "names"),
    [
        ("127.0.0.1", (), {"127.0.0.1", "[::1]", "localhost"}),
        ("127.9.9.9", (), {"127.0.0.1", "[::1]", "localhost", "127.9.9.9"}),
        ("::1", ("Range.Example",), {"127.0.0.1", "[::1]", "localhost", "range.example"}),
        ("0.0.0.0", (), None),
        ("::", (), None),
        ("0.0.0.0", ("range.example",), {"127.0.0.1", "[::1]", "localhost", "range.example", "0.0.0.0"}),
    ],
)
def test_names_follow_from_the_settings(host, more, names):
    plain = [{"name": name, "folder": "none"} for name in CARDS]
    found = hosts.allowed(Settings(host=host, hosts=more, plans={"free": {}}, victims=plain))
    assert found == (None if names is None else {name.encode() for name in names})


def test_metrics_answer_to_the_same_names():
    names = frozenset([b"localhost", b"127.0.0.1"])
    with telemetry.serving("127.0.0.1", 0, Telemetry("1.2.3").registry, names) as url:
        assert httpx.get(url).status_code == 200
        other = httpx.get(url, headers={"Host": "evil.example"})
    assert other.status_code == 421 and "mlaas" not in other.text


def test_a_server_shows_its_metrics_to_its_names_alone(config):
    port = free_port()
    config.write_text(f'metrics_port = {port}\nhosts = ["range.example"]\n' + config.read_text())
    with serving("--config", config, cwd=config.parent) as (url, _):
        for target in (f"{url}/v2", f"http://127.0.0.1:{port}/metrics"):
            for host, status in (("range.example", 200), ("evil.example", 421), ("127.0.0.1:80", 200)):
                assert httpx.get(target, headers={"Host": host}).status_code == status
