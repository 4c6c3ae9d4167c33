"""The alarms as administrators see them: the list, and the stream."""

import asyncio
import json
import signal
import threading
import time

import anyio
import httpx
import pytest
from alarm_parts import ask, watched
from parts import Local, keys_of_new, local_server, serving

from server.control.log import ControlLog
from server.routes.alarms import events
from server.settings import read_settings
from wire import BadInput
from wire.http import Endpoint


def test_detectors_stand_last_and_not_in_plans(config):
    text = watched(config).read_text()
    config.write_text(text.replace('"refuse"  }', '"refuse" }, { type = "rounding", digits = 2 }'))
    with pytest.raises(BadInput, match="prada: rounding stands inside it"), local_server(config) as server:
        asyncio.run(server.app.service.begin())
    config.write_text(text.replace("[plans.free]", '[plans.free]\ndefenses = [{type = "prada", delta = 0.9}]'))
    with pytest.raises(BadInput, match="prada is the same for all accounts"), local_server(config):
        pass
    config.write_text(text.replace("delta", "detla"))
    with pytest.raises(BadInput, match=r"prada has no field 'detla'; it has delta, .*reaction"):
        read_settings(config)


def test_the_detectors_time_is_counted(config, thief):
    with local_server(watched(config)) as server:
        server.endpoint("watched", "free", "bad")(thief[:50])
        registry = server.app.telemetry.registry
        assert registry.get_sample_value("mlaas_defence_seconds_count", {"defence": "prada"}) >= 1


def test_alarms_are_for_administrators(local):
    headers = local.headers("free", "nosy")
    for method, path in (("GET", ""), ("GET", "/stream"), ("DELETE", "/a/open/prada")):
        assert local.client.request(method, f"/admin/alarms{path}", headers=headers).status_code == 403


def test_the_stream_tells_alarms_and_clears(config, monkeypatch):
    monkeypatch.setattr("server.routes.alarms._PERIOD", 0.01)

    async def found():
        return {"row": 3, "statistic": 0.5, "reaction": "log", "digits": None, "log": "watch/x"}

    async def script(server):
        control = ControlLog(server.store, server.clock)
        closing = anyio.Event()
        told = events(server.app.service, closing)
        await control.alarms.raise_alarm("a", "watched", "prada", 0, found)
        alarm = await anext(told)
        await control.alarms.clear("a", "watched", "prada", "root")
        clear = await anext(told)
        closing.set()
        assert [rest async for rest in told] == []
        return alarm, clear

    alarm, clear = asyncio.run(script(Local(watched(config))))
    assert (alarm.event, clear.event) == ("alarm", "clear")
    assert json.loads(alarm.data) == json.loads(clear.data) and json.loads(alarm.data)["account"] == "a"


def test_readers_of_the_stream_compare_alarms_only_when_one_has_changed(config):
    async def found():
        return {"row": 3, "statistic": 0.5, "reaction": "log", "digits": None, "log": "watch/x"}

    async def script(server):
        server, others = server.app.service.control, ControlLog(server.store, server.clock)
        before = server.alarms.all()
        await server.catch_up()
        assert server.alarms.all() is before
        await others.alarms.raise_alarm("a", "watched", "prada", 0, found)
        await others.accounts.create("b", "paying", "root")
        await server.catch_up()
        raised = server.alarms.all()
        assert [alarm.account for alarm in raised] == ["a"] and server.alarms.all() is raised
        await others.alarms.clear("a", "watched", "prada", "root")
        await server.catch_up()
        assert server.alarms.all() == []

    asyncio.run(script(Local(watched(config))))


def test_the_stream_over_http_ends_at_drain(config, thief):
    watched(config, "log")
    config.write_text("drain_seconds = 2\n" + config.read_text())
    admin, key = keys_of_new(config, root="admin", bad="free")
    with serving("--config", config, cwd=config.parent) as (url, process):
        lines = []

        def listen():
            headers = {"Authorization": f"Bearer {admin}"}
            with httpx.stream("GET", f"{url}/admin/alarms/stream", headers=headers, timeout=30) as reply:
                lines.append(reply.headers["Content-Type"])
                lines.extend(reply.iter_lines())

        listener = threading.Thread(target=listen)
        listener.start()
        with httpx.Client() as client:
            ask(Endpoint(url, model="watched", key=key, client=client), thief)
        deadline = time.monotonic() + 10
        while "event: alarm" not in lines and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        listener.join(10)
        assert not listener.is_alive()
        process.wait(10)
        assert process.returncode in (0, -signal.SIGTERM)
    assert lines[0].startswith("text/event-stream") and "event: alarm" in lines
