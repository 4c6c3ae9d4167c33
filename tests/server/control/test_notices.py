"""An alarm reaches somebody."""

import asyncio
import logging

import pytest

from defenses.reactions.alarm import StandingAlarm
from defenses.store import open_store
from server.control import notices as module
from server.control.log import ControlLog
from server.control.notices import Notices
from server.http.telemetry import Telemetry

FOUND = {"row": 7, "statistic": 0.25, "reaction": "refuse", "digits": None, "log": "watch/x"}


class Hook:
    """Takes what is posted; fails at first as often as it is told to."""

    def __init__(self, failures=0):
        self.posted, self.failures = [], failures

    async def __call__(self, reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-l")
        )
        self.posted.append((await reader.readexactly(length)).decode())
        status = b"500 No" if len(self.posted) <= self.failures else b"204 OK"
        writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()


async def found():
    return FOUND


async def raised_twice(hook=None):
    """Two workers find the same alarm; returns the telemetry of both."""
    store, seen = open_store("sqlite://"), Telemetry("1.2.3")
    server = url = None
    if hook is not None:
        server = await asyncio.start_server(hook, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/alarms?token=t"
    workers = [ControlLog(store, lambda: 3.0) for _ in range(2)]
    notices = [Notices(seen.alarm, url) for _ in workers]
    for worker, notice in zip(workers, notices, strict=True):
        worker.alarms.notify = notice
        await worker.alarms.raise_alarm("bad", "m", "prada", 0, found)
    for notice in notices:
        await notice.close()
    if server is not None:
        server.close()
    await store.close()
    return seen


async def test_it_is_logged_and_counted_once_whatever_number_of_workers_finds_it(caplog):
    with caplog.at_level(logging.WARNING):
        seen = await raised_twice()
    labels = {"detector": "prada", "model": "m", "reaction": "refuse"}
    assert seen.registry.get_sample_value("range_alarms_total", labels) == 1
    warnings = [record.getMessage() for record in caplog.records if "alarm:" in record.getMessage()]
    assert warnings == ["alarm: account bad, model m, detector prada: row 7, statistic 0.25; reaction: refuse"]


@pytest.mark.parametrize("failures", [0, 1])
async def test_it_is_posted_and_tried_again(failures, monkeypatch, caplog):
    hook = Hook(failures)
    await raised_twice(hook)
    assert len(hook.posted) == failures + 1
    assert '"account":"bad"' in hook.posted[-1] and "watch/x" not in hook.posted[-1]
    assert "could not be posted" not in caplog.text


async def test_a_webhook_that_fails_is_logged_and_holds_nobody_up(monkeypatch, caplog):
    monkeypatch.setattr(module, "_TRIES", 2)
    notices = Notices(lambda *_: None, "http://127.0.0.1:9/nobody")
    notices(StandingAlarm("bad", "m", "prada", 0.0, 7, 0.25))
    assert "could not be posted" not in caplog.text
    await notices.close()
    assert "the alarm of account bad could not be posted" in caplog.text and not notices._tasks
