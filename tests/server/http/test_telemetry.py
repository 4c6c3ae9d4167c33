import asyncio
import json
import logging
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
import yaml
from parts import SHAPE, free_port, keys_of_new, serving
from prometheus_client.parser import text_string_to_metric_families

from defenses import compose
from server.http import logs, telemetry
from server.http.request_record import RequestRecord
from server.http.telemetry import Telemetry
from server.settings import Settings, read_settings
from wire import BadInput

ROOT = Path(__file__).parents[3]
DASHBOARD = json.loads((ROOT / "deploy/grafana/range.json").read_text())
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())

WORKER = """
import sys
from server.http.telemetry import Telemetry
telemetry = Telemetry("1.2.3", lambda: 100)
telemetry.in_flight.inc()
telemetry.request("/v1/account", 200, 0.01)
telemetry.rows("open", 7)
print("counted", flush=True)
sys.stdin.read()
"""


def samples(url):
    families = text_string_to_metric_families(httpx.get(url).text)
    return {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}


async def victim(query):
    return query


class Plain:
    disclose = staticmethod(lambda card: card)

    async def __call__(self, query, handle):
        return await handle(query)


def used():
    """A telemetry that has seen everything once."""
    seen = Telemetry("1.2.3", lambda: 4096)
    seen.in_flight.inc()
    seen.request("/v2/models/{model}/infer", 200, 0.004)
    seen.request("/v2/models/{model}/infer", 429, 0.001)
    seen.rows("open", 64)
    seen.refused("rate_limit")
    seen.forward("open", 96, 0.0002, 0.003)
    seen.trip(0.0007, 3)
    seen.alarm("prada", "open", "refuse")
    asyncio.run(seen.timed("rounding", Plain())("rows", victim))
    return seen


def test_what_was_counted_is_shown():
    seen = used()
    with telemetry.serving("127.0.0.1", 0, seen.registry) as url:
        shown = samples(url)
    route = "/v2/models/{model}/infer"
    assert shown["mlaas_requests_in_flight",] == 1
    assert (
        shown["mlaas_request_seconds_count", route, "200"]
        == shown["mlaas_request_seconds_count", route, "429"]
        == 1
    )
    assert shown["mlaas_request_seconds_sum", route, "200"] == 0.004
    assert shown["mlaas_rows_total", "open"] == 64
    assert shown["mlaas_refusals_total", "rate_limit"] == 1
    assert shown["mlaas_batch_rows_sum", "open"] == 96
    assert shown["mlaas_queue_seconds_sum", "open"] == 0.0002
    assert shown["mlaas_forward_seconds_sum", "open"] == 0.003
    assert shown["mlaas_store_seconds_sum",] == 0.0007
    assert shown["mlaas_store_charges_sum",] == 3
    assert shown["mlaas_gpu_memory_bytes",] == 4096
    assert sum(name == "mlaas_build_info" for name, *_ in shown) == 1


def test_applications_do_not_count_together():
    one, other = used(), Telemetry("1.2.3")
    assert one.registry.get_sample_value("mlaas_rows_total", {"model": "open"}) == 64
    assert other.registry.get_sample_value("mlaas_rows_total", {"model": "open"}) is None
    assert other.registry.get_sample_value("mlaas_gpu_memory_bytes") is None


def test_gpu_memory_is_read_now_and_then(monkeypatch):
    readings = iter(range(100))
    seen = Telemetry("1.2.3", lambda: next(readings))
    for _ in range(5):
        seen.forward("open", 1, 0, 0)
    assert seen.registry.get_sample_value("mlaas_gpu_memory_bytes") == 0
    now = time.monotonic()
    monkeypatch.setattr(telemetry, "monotonic", lambda: now + 60)
    seen.forward("open", 1, 0, 0)
    assert seen.registry.get_sample_value("mlaas_gpu_memory_bytes") == 1


class Slow:
    """Takes 20 ms before the layers inside and 10 ms behind them."""

    disclose = staticmethod(lambda card: card)

    async def __call__(self, query, handle):
        await asyncio.sleep(0.02)
        answer = await handle(query)
        await asyncio.sleep(0.01)
        return answer


async def test_a_layer_is_timed_without_those_inside():
    async def slow(query):
        await asyncio.sleep(0.2)
        return query

    seen = Telemetry("1.2.3")
    handle = compose([seen.timed("outer", Slow()), seen.timed("inner", Slow())], slow)
    assert await handle("rows") == "rows"
    for kind in ("outer", "inner"):
        took = seen.registry.get_sample_value("mlaas_defence_seconds_sum", {"defence": kind})
        assert 0.03 <= took < 0.15


async def test_a_layer_is_timed_now_and_then():
    seen = Telemetry("1.2.3")
    handle = compose([seen.timed("kind", Plain())], victim)
    assert [await handle(number) for number in range(40)] == list(range(40))
    assert seen.registry.get_sample_value("mlaas_defence_seconds_count", {"defence": "kind"}) == 3


def test_a_parent_shows_what_its_workers_count():
    with telemetry.gathering("127.0.0.1", 0) as url:
        workers = [
            subprocess.Popen([sys.executable, "-c", WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            for _ in range(2)
        ]
        try:
            for worker in workers:
                assert worker.stdout.readline() == b"counted\n"
            before = samples(url)
            workers[0].kill()
            workers[0].wait()
            telemetry.ended(workers[0].pid)
            after = samples(url)
            folder = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
        finally:
            for worker in workers:
                worker.communicate()
    for shown, alive in ((before, 2), (after, 1)):
        assert shown["mlaas_rows_total", "open"] == 14
        assert shown["mlaas_request_seconds_count", "/v1/account", "200"] == 2
        assert shown["mlaas_requests_in_flight",] == alive
        assert shown["mlaas_gpu_memory_bytes",] == 100 * alive
        assert sum(value for (name, *_), value in shown.items() if name == "mlaas_build_info") == 1
    assert not folder.exists()
    assert "PROMETHEUS_MULTIPROC_DIR" not in os.environ


def test_a_port_that_is_taken():
    with (
        telemetry.serving("127.0.0.1", 0, Telemetry("1.2.3").registry) as url,
        pytest.raises(BadInput, match=r"cannot show metrics at 127\.0\.0\.1:\d+: Address already in use"),
        telemetry.serving("127.0.0.1", httpx.URL(url).port, Telemetry("1.2.3").registry),
    ):
        pass


def test_the_dashboard_asks_for_what_is_counted():
    shown = {sample.name for family in used().registry.collect() for sample in family.samples}
    asked = {
        name
        for panel in DASHBOARD["panels"]
        for target in panel["targets"]
        for name in re.findall(r"\b(?:mlaas|range)_\w+", target["expr"])
    }
    assert asked and asked <= shown, asked - shown
    families = {family.name.removeprefix("mlaas_") for family in used().registry.collect()}
    unasked = {name for name in families if not any(name in text for text in asked)}
    assert not unasked, unasked


def test_prometheus_and_grafana_find_what_they_are_told_to():
    (scrape,) = yaml.safe_load((ROOT / "deploy/prometheus.yml").read_text())["scrape_configs"]
    (found,) = scrape["dns_sd_configs"]
    (line,) = COMPOSE["services"]["server"]["command"]  # a shell's
    command = line.split()
    assert found["names"] == ["server"] and found["type"] == "A"
    assert str(found["port"]) == command[command.index("--metrics-port") + 1]
    (source,) = yaml.safe_load((ROOT / "deploy/grafana/datasource.yml").read_text())["datasources"]
    assert {panel["datasource"]["uid"] for panel in DASHBOARD["panels"]} == {source["uid"]}
    assert httpx.URL(source["url"]).host in COMPOSE["services"]
    (provider,) = yaml.safe_load((ROOT / "deploy/grafana/dashboards.yml").read_text())["providers"]
    mounts = dict(mount.split(":")[:2] for mount in COMPOSE["services"]["grafana"]["volumes"])
    assert mounts["./deploy/grafana/range.json"].startswith(provider["options"]["path"])


def test_only_the_proxy_and_what_the_operator_looks_at_publish_ports_on_this_machine():
    published = {name: service["ports"] for name, service in COMPOSE["services"].items() if "ports" in service}
    assert set(published) == {"proxy", "prometheus", "grafana"}
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)
    clients = {network for name in ("attacker", "owner") for network in COMPOSE["services"][name]["networks"]}
    others = set(COMPOSE["services"]) - {"attacker", "owner", "proxy"}
    assert not [name for name in others if clients & set(COMPOSE["services"][name].get("networks", []))]


def test_the_proxy_closes_an_idle_connection_before_the_server_does():
    (idle,) = re.findall(r"keepalive (\d+)s", (ROOT / "deploy/Caddyfile").read_text())
    assert int(idle) < Settings.model_fields["head_seconds"].default


@pytest.mark.parametrize("given", [b"7", b"a-b_c.D", b"x" * 64])
def test_a_plain_request_id_is_kept(given):
    assert logs.request_id(given) == given.decode()


@pytest.mark.parametrize("given", [None, b"", b"x" * 65, b"a b", b'a"b', b"a\n", "é".encode(), b"\xff"])
def test_other_requests_are_given_an_id_of_their_own(given):
    made = {logs.request_id(given) for _ in range(3)}
    assert len(made) == 3
    assert all(logs.request_id(name.encode()) == name for name in made)


def test_a_request_leaves_one_line(capfd):
    logs.access(RequestRecord("abc", "/v2/models/{model}/infer", 200, "ann", "open", 3), 0.0123456)
    logs.access(RequestRecord("abd", status=500, reason="failure"), 0.1)
    first, second = map(json.loads, capfd.readouterr().err.splitlines())
    assert first.pop("time").endswith("+00:00")
    assert first == {
        "level": "info",
        "request": "abc",
        "route": "/v2/models/{model}/infer",
        "status": 200,
        "milliseconds": 12.346,
        "account": "ann",
        "model": "open",
        "rows": 3,
        "reason": None,
    }
    assert (second["level"], second["reason"]) == ("error", "failure")


def test_a_log_that_nobody_reads_fails_no_request(tmp_path):
    script = (
        "import os; from server.http import logs, request_record; os.close(2); "
        "logs.access(request_record.RequestRecord('abc'), 0.1); print('on')"
    )
    assert subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, check=True).stdout == b"on\n"


@pytest.mark.parametrize("form", ["text", "json"])
def test_an_event_tells_of_an_error_all_but_what_it_quotes(form, capfd):
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        logs.begin(form)
        logging.getLogger("uvicorn.error").info("it is up")
        try:
            float("a row")
        except ValueError:
            logging.getLogger("server").exception("a request failed")
    finally:
        root.handlers[:], level = before
        root.setLevel(level)
    written = capfd.readouterr().err
    assert "it is up" in written and "a request failed" in written
    assert "ValueError" in written and "test_telemetry.py" in written
    assert "could not convert" not in written
    if form == "json":
        first, second = map(json.loads, written.splitlines())
        assert (first["level"], first["logger"], first["message"]) == ("info", "uvicorn.error", "it is up")
        assert second["level"] == "error" and "ValueError" in second["error"]


@pytest.fixture
def store(config, request):
    """A store's URL: SQLite for one worker, Redis for more."""
    if request.param == 1:
        yield read_settings(config).store_url()
        return
    own = request.getfixturevalue("own_redis")
    own.flushall()
    yield f"unix://{own.socket_file}"


@pytest.mark.parametrize(("workers", "store"), [(1, 1), (2, 2)], indirect=["store"])
def test_a_running_server_counts_and_logs_and_tells_no_secret(config, workers, store):
    (key,), port = keys_of_new(store, ann="paying"), free_port()
    secret = f"8{port}.125"  # a number of a row
    row = np.full(SHAPE, 0.5).tolist()
    odd = json.dumps({"instances": [row]}).replace("0.5", secret, 1)
    flags = "--store", store, "--workers", workers, "--metrics-port", port, "--log", "json"
    with serving("--config", config, *flags, cwd=config.parent) as (url, process):
        with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}) as client:
            answers = [
                client.post(
                    "/v1/models/open:predict", json={"instances": [row] * n}, headers={"X-Request-Id": f"r-{n}"}
                )
                for n in (1, 2, 3)
            ]
            refused = [
                client.post("/v1/models/limited:predict", json={"instances": [row] * 64}),
                client.post("/v1/models/limited:predict", json={"instances": [row] * 64}),
                client.post("/v1/models/limited:predict", json={"instances": [row] * 64}),
                client.post(f"/v1/models/open:predict?key={key}", content=odd),
                client.post("/v1/models/open:predict", content=odd + "}"),
                client.get("/v1/account", headers={"Authorization": f"Bearer {key}x"}),
                client.get(f"/{key}"),
            ]
        shown = samples(f"http://127.0.0.1:{port}/metrics")
        closed = httpx.get(f"{url}/metrics").status_code
        process.terminate()
        written = process.communicate(timeout=30)[0].decode()
    assert [answer.headers["X-Request-Id"] for answer in answers] == ["r-1", "r-2", "r-3"]
    assert [answer.status_code for answer in refused] == [200, 200, 429, 400, 400, 401, 404]
    assert [json.loads(answer.content)["request_id"] for answer in refused[2:]] == [
        answer.headers["X-Request-Id"] for answer in refused[2:]
    ]
    assert closed == 404  # not on the API's port
    route = "/v1/models/{model}:predict"
    assert shown["mlaas_request_seconds_count", route, "200"] == 5
    assert shown["mlaas_rows_total", "open"] == 6 and shown["mlaas_rows_total", "limited"] == 128
    assert shown["mlaas_refusals_total", "rows"] == shown["mlaas_refusals_total", "key"] == 1
    assert sum(v for (name, *_), v in shown.items() if name == "mlaas_batch_rows_sum") == 134
    assert shown["mlaas_store_charges_sum",] >= 6
    assert shown["mlaas_requests_in_flight",] == 0
    lines = [json.loads(line) for line in written.splitlines()]
    mine = {line["request"]: line for line in lines if "request" in line}
    assert [(mine[f"r-{n}"]["rows"], mine[f"r-{n}"]["account"], mine[f"r-{n}"]["model"]) for n in (1, 2, 3)] == [
        (n, "ann", "open") for n in (1, 2, 3)
    ]
    assert key not in written and key.partition("_")[2] not in written
    assert secret not in written
