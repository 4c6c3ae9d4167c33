"""What every request meets first: its id, its count, its line in the log, and a server that closes."""

import asyncio
import gzip
import json
from itertools import pairwise

import httpx
import numpy as np
import pytest
from parts import local_server

from server.http.application import MOST_ELSEWHERE
from wire import Refused


@pytest.fixture
def headers(local):
    return local.headers()


def predict(local, headers, rows, **more):
    body = {"instances": rows.tolist(), **more}
    return local.client.post("/v1/models/open:predict", json=body, headers=headers)


def counted(local):
    """Returns the metrics' samples by name and labels."""
    families = local.app.telemetry.registry.collect()
    return {
        (sample.name, *sample.labels.values()): sample.value for family in families for sample in family.samples
    }


@pytest.mark.parametrize("path", ["/v2", "/v1/models/open:predict", "/nowhere"])
def test_every_answer_carries_the_request_s_id(local, path):
    get = local.client.get
    assert get(path, headers={"X-Request-Id": "mine-1"}).headers["X-Request-Id"] == "mine-1"
    drawn = [get(path).headers["X-Request-Id"] for _ in range(2)]
    assert drawn[0] != drawn[1]
    for given in (b"x" * 65, b"a b", b"\xc3\xa9"):
        assert get(path, headers={"X-Request-Id": given}).headers["X-Request-Id"] not in (given.decode(), *drawn)


def test_ids_disclose_no_traffic(local):
    ids = [local.client.get("/v2").headers["X-Request-Id"].split("-") for _ in range(600)]
    assert len({process for process, _ in ids}) == 1 and len({number for _, number in ids}) == 600
    steps = {int(b, 16) - int(a, 16) for (_, a), (_, b) in pairwise(ids)}
    assert len(steps) == 599 and min(map(abs, steps)) > 2**32


@pytest.mark.parametrize(
    "path", ["/", "/v2", "/v2/health/ready", "/v2/models/open", "/v1/account", "/openapi.json"]
)
def test_head_is_get_without_a_body(local, path):
    headers = local.headers()
    get, head = (local.client.request(method, path, headers=headers) for method in ("GET", "HEAD"))
    assert head.status_code == get.status_code == 200 and head.content == b"" != get.content
    for name in ("Content-Length", "Content-Type"):
        assert head.headers[name] == get.headers[name]


def test_head_knows_what_get_knows(local):
    for path, status in (("/v1/account", 401), ("/nowhere", 404), ("/v2/models/open/infer", 405)):
        assert local.client.head(path).status_code == local.client.get(path).status_code == status
    assert local.client.get("/v2/models/open/infer").headers["Allow"] == "POST"
    stream = local.client.head("/admin/alarms/stream", headers=local.headers("admin", "root"))
    assert stream.status_code == 200 and stream.content == b""  # and it ends


BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "page"),
    [
        (BROWSER, True),
        ("text/html", True),
        ("*/*", False),
        ("", False),
        ("application/json, text/html;q=0.5", False),
    ],
)
def test_the_root_shows_a_page_to_browsers_alone(local, accept, page):
    reply = local.client.get("/", headers={"Accept": accept})
    assert reply.status_code == 200
    if page:
        assert reply.headers["Content-Type"].startswith("text/html") and 'href="/docs"' in reply.text
        assert "Authorization: Bearer" in reply.text and "accounts create" in reply.text
        assert not any(model in reply.text for model in ("open<", "limited", "labels"))
    else:
        assert reply.json() == {"status": "alive"}


def test_requests_are_counted_by_their_route_and_what_became_of_them(local, rows):
    headers = local.headers()
    predict(local, headers, rows[:3])
    predict(local, headers, rows[:3] + 2)
    predict(local, {}, rows[:3])
    local.client.get("/v2/models/open/versions/1", headers=headers)
    local.client.get("/nowhere")
    samples = counted(local)
    route = "/v1/models/{model}:predict"
    for status in ("200", "400", "401"):
        assert samples["mlaas_request_seconds_count", route, status] == 1
    assert samples["mlaas_request_seconds_count", "/v2/models/{model}/versions/{version}", "200"] == 1
    assert samples["mlaas_request_seconds_count", "unknown", "404"] == 1
    assert samples["mlaas_rows_total", "open"] == 3
    assert samples["mlaas_refusals_total", "key"] == samples["mlaas_refusals_total", "malformed"] - 1 == 1
    assert samples["mlaas_requests_in_flight",] == 0


def test_a_line_in_the_log_tells_of_each_request_but_no_key_and_no_row(config, rows, capfd):
    config.write_text('log = "json"\n' + config.read_text())
    with local_server(config) as local:
        headers = {**local.headers(), "X-Request-Id": "seen"}
        predict(local, headers, rows[:2])
        local.client.post("/v2/models/limited/infer?secret=1", content=b"{", headers=headers)
    written = capfd.readouterr().err
    lines = [json.loads(line) for line in written.splitlines()]
    first, second = [line for line in lines if line.get("request") == "seen"]
    assert (first["account"], first["model"], first["rows"], first["status"]) == ("someone", "open", 2, 200)
    assert (second["route"], second["status"], second["reason"]) == ("/v2/models/{model}/infer", 400, "malformed")
    assert headers["Authorization"].split()[1] not in written and "secret" not in written


def test_a_body_without_rows_is_short(local):
    headers = local.headers("admin")
    long = local.client.post("/admin/accounts", content=b" " * (MOST_ELSEWHERE + 1), headers=headers)
    assert long.status_code == 413 and str(MOST_ELSEWHERE) in long.json()["detail"]
    bomb = gzip.compress(b" " * (MOST_ELSEWHERE + 1))
    packed = local.client.post("/admin/accounts", content=bomb, headers={**headers, "Content-Encoding": "gzip"})
    assert packed.status_code == 413 and "after decompression" in packed.json()["detail"]
    new = gzip.compress(b'{"name": "b", "plan": "free"}')
    more = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    assert local.client.post("/admin/accounts", content=new, headers={**headers, **more}).status_code == 201


@pytest.mark.parametrize("path", ["/v2/models/open/infer", "/v1/models/open:predict"])
async def test_the_body_of_who_has_no_key_is_not_read(local, path):
    sent = []

    async def unread():
        raise AssertionError("the body was read")

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": path, "headers": [(b"content-length", b"9")]}
    await local.app(scope, unread, send)
    assert sent[0]["status"] == 401


@pytest.mark.parametrize(
    ("path", "status"),
    [("/v2/models/open/infer", 404), ("/v2/models/open/versions/1/infer", 404), ("/v1/models/open:predict", 405)],
)
def test_a_path_that_ends_in_a_line_s_end_carries_no_rows(local, path, status):
    body = {"inputs": [{"name": "input", "shape": [1], "datatype": "FP32"}], "instances": [[0]]}
    reply = local.client.post(f"{path}%0A", json=body)
    assert reply.status_code == status and reply.headers["Content-Type"] == "application/problem+json"


def test_nothing_may_stand_behind_compressed_data(local, rows):
    headers = {**local.headers(), "Content-Encoding": "gzip"}
    packed = gzip.compress(json.dumps({"instances": rows[:1].tolist()}).encode())
    post = local.client.post
    assert post("/v1/models/open:predict", content=packed, headers=headers).status_code == 200
    reply = post("/v1/models/open:predict", content=packed + b"more", headers=headers)
    assert reply.status_code == 400 and "4 bytes stand behind the end" in reply.json()["detail"]


def test_what_nobody_foresaw_is_told_without_its_words_and_not_billed(local, rows, caplog):
    headers = local.headers()
    deployed = local.app.service._served["open"].batcher

    async def broken(x):
        raise ValueError(f"secret {x[0]}")

    object.__setattr__(local.app.service._served["open"], "batcher", broken)
    reply = predict(local, headers, rows[:2])
    assert reply.status_code == 500 and "secret" not in reply.text
    assert reply.headers["Content-Type"] == "application/problem+json"
    object.__setattr__(local.app.service._served["open"], "batcher", deployed)
    assert predict(local, headers, rows[:2]).status_code == 200
    assert local.client.get("/v1/account", headers=headers).json()["rows"] == 2


def test_a_closing_server_says_so_and_ends_connections(local, rows):
    headers = local.headers()
    local.app.draining = True
    for reply in (predict(local, headers, rows), local.client.get("/v2/health/ready"), local.client.get("/v2")):
        assert reply.status_code == 503 and reply.headers["Connection"] == "close"
        assert int(reply.headers["Retry-After"]) >= 1 and "closing" in reply.json()["error"]
    live = local.client.get("/v2/health/live")
    assert live.status_code == 200 and live.headers["Connection"] == "close"
    local.app.draining = False
    assert local.client.get("/v1/account", headers=headers).json()["requests"] == 0
    assert counted(local)["mlaas_refusals_total", "drain"] == 3


def test_a_closing_server_reads_little_of_who_has_no_key(local, rows):
    local.app.draining = True
    assert predict(local, {}, rows).status_code == 401
    long = b" " * (MOST_ELSEWHERE + 1)
    assert local.client.post("/v2", content=long).status_code == 413
    assert local.client.post("/v2/models/open/infer", content=long, headers=local.headers()).status_code == 503


@pytest.mark.parametrize("path", ["/v1/models/open:predict", "/v2/health/ready"])
async def test_what_is_cut_off_by_the_server_s_end_is_told_so(local, headers, monkeypatch, rows, path):
    begun, sent = asyncio.Event(), []

    async def stuck(*_):
        begun.set()
        await asyncio.Event().wait()

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "http.request", "body": json.dumps({"instances": rows[:1].tolist()}).encode()}

    monkeypatch.setattr(local.app.service, "ask", stuck)
    monkeypatch.setattr(local.app.service, "check", stuck)
    method = "GET" if path.startswith("/v2") else "POST"
    scope = {"type": "http", "method": method, "path": path, "query_string": b"", "root_path": ""}
    scope["headers"] = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    task = asyncio.ensure_future(local.app(scope, receive, send))
    await begun.wait()
    local.app.draining = True
    task.cancel()
    await task
    assert sent[0]["status"] == 503 and "closing" in json.loads(sent[1]["body"])["detail"]


def test_ready_means_store_and_workers_too(local, monkeypatch):
    def ready():
        reply = local.client.get("/v2/health/ready")
        return reply.status_code, reply.json().get("detail")

    assert ready() == (200, None)
    local.app.service.up = [1, 0, 1]
    assert ready() == (503, "2 of 3 workers serve")
    local.app.service.up = [1, 1]

    async def away(log, start=0):
        raise Refused("the store is unavailable", status=503, retry_after=1)

    async def silent(log, start=0):
        await asyncio.sleep(60)

    monkeypatch.setattr(local.store, "read", away)
    assert ready() == (503, "the store is unavailable")
    monkeypatch.setattr("server.deployment.service.STORE_SECONDS", 0.05)
    monkeypatch.setattr(local.store, "read", silent)
    assert ready() == (503, "the store has not answered within 0.05 seconds")
    assert local.client.get("/v2/health/live").status_code == 200


def test_requests_at_the_same_time_get_their_own_answers(local, network, rows):
    headers = local.headers(plan="free")

    async def all_at_once():
        transport = httpx.ASGITransport(local.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://local", headers=headers) as client:
            asked = [client.post("/v1/models/open:predict", json={"instances": [row.tolist()]}) for row in rows]
            return await asyncio.gather(*asked)

    replies = local.client._transport._portal.call(all_at_once)
    labels = [reply.json()["predictions"][0]["label"] for reply in replies]
    np.testing.assert_array_equal(labels, network.predict(rows).argmax(axis=1))
