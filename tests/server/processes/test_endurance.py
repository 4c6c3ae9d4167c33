"""What only shows after long: memory after many requests and rows, and hundreds of readers of the alarm stream."""

import asyncio
import json
import resource

import httpx
import numpy as np
import psutil
import pytest
from parts import SHAPE, command, configured, keys_of_new, serving

pytestmark = pytest.mark.slow

ROWS_OF_BODY = 64
WATCHED = """
[[victims]]
name = "watched"
folder = "net"
max_rows = 64
dtype = "UINT8"
defenses = [{ type = "rounding", digits = 2 }, { type = "prada", delta = 0.95, window = 4096 }]
"""


@pytest.fixture
def server(tmp_path, network, cache):
    """The URL of a server that watches a victim, its process, and a function that makes accounts."""
    config = configured(tmp_path, network, cache)
    config.write_text(config.read_text() + WATCHED)
    with serving("--config", config, cwd=tmp_path) as (url, process):
        yield url, psutil.Process(process.pid), lambda **plans: keys_of_new(config, **plans)


def memory(process):
    """Returns the bytes of memory that a process holds to itself."""
    return process.memory_full_info().uss


def request(url, key, model, rows, kind="rows"):
    """Returns a request of the Open Inference Protocol as bytes, with its rows as the body."""
    datatype = "UINT8" if rows.dtype == np.uint8 else "FP32"
    tensor = {
        "name": "input",
        "shape": rows.shape,
        "datatype": datatype,
        "parameters": {"binary_data_size": rows.nbytes},
    }
    head = json.dumps({"inputs": [tensor]}).encode()
    lines = [
        f"POST /v2/models/{model}/infer HTTP/1.1",
        f"Host: {httpx.URL(url).netloc.decode()}",
        f"Authorization: Bearer {key}",
        f"Inference-Header-Content-Length: {len(head)}",
        f"Content-Length: {len(head) + rows.nbytes}",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + head + rows.tobytes()


async def answered(reader):
    """Reads an answer to its end, and returns its status."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
    length = next(int(line.partition(":")[2]) for line in head if line.startswith("content-length:"))
    await reader.readexactly(length)
    return int(head[0].split()[1])


async def ask(url, bodies):
    """Sends requests one after another over one connection, and checks that each is answered."""
    reader, writer = await asyncio.open_connection(httpx.URL(url).host, httpx.URL(url).port)
    try:
        for body in bodies:
            writer.write(body)
            assert await answered(reader) == 200
    finally:
        writer.close()


async def ask_abreast(url, lists):
    await asyncio.gather(*[ask(url, bodies) for bodies in lists])


def test_memory_is_flat_over_fifty_thousand_requests(server):
    url, process, keys = server
    key = keys(someone="paying")[0]
    rng, held = np.random.default_rng(0), []

    def bodies(count):
        for _ in range(count):
            yield request(url, key, "open", rng.random((1, *SHAPE), np.float32))

    for _ in range(6):
        asyncio.run(ask_abreast(url, [bodies(10_000 // 16) for _ in range(16)]))
        held.append(memory(process) / 2**20)
    print("MiB after each 10,000 requests:", [round(each, 1) for each in held])
    assert held[-1] - held[0] < 8  # 50,000 requests; 170 bytes kept of each would be more


def test_memory_is_bounded_over_a_million_watched_rows(server):
    url, process, keys = server
    names = {f"customer{i}": "paying" for i in range(16)}
    held = []

    def bodies(key, seed, count):
        rng = np.random.default_rng(seed)
        for _ in range(count):
            yield request(url, key, "watched", rng.integers(0, 256, (ROWS_OF_BODY, *SHAPE), np.uint8))

    each = 1_000_000 // 4 // len(names) // ROWS_OF_BODY
    made = keys(**names)
    for quarter in range(4):
        lists = [bodies(key, 100 * quarter + i, each) for i, key in enumerate(made)]
        asyncio.run(ask_abreast(url, lists))
        held.append(memory(process) / 2**20)
    print("MiB after each 250,000 rows:", [round(each, 1) for each in held])
    # Rows of 64 bytes: a million of them would be 61 MiB, and as floats 244.
    assert held[-1] - held[0] < 30


async def reading(url, key, told, seen, heard):
    """Reads the stream of alarms: says when it is open, and when it has heard of an alarm."""
    reader, writer = await asyncio.open_connection(httpx.URL(url).host, httpx.URL(url).port, limit=2**20)
    lines = [
        "GET /admin/alarms/stream HTTP/1.1",
        f"Host: {httpx.URL(url).netloc.decode()}",
        f"Authorization: Bearer {key}",
    ]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    try:
        await reader.readuntil(b"\r\n\r\n")
        told()
        await reader.readuntil(b"event: alarm")
        seen()
        await heard.wait()
    finally:
        writer.close()


def test_five_hundred_readers_hear_an_alarm_and_an_honest_client_is_answered(server, thief):
    url, process, keys = server
    admin, honest, stealing = keys(admin="admin", honest="paying", thief="paying")
    before = process.num_fds()
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit[0] < 1024:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, limit[1]), limit[1]))
    stolen = (thief * 255).astype(np.uint8)

    async def run():
        opened, counts = asyncio.Event(), {"open": 0, "heard": 0}
        heard = asyncio.Event()

        def count(what, event):
            counts[what] += 1
            if counts[what] == 500:
                event.set()

        readers = [
            asyncio.create_task(
                reading(url, admin, lambda: count("open", opened), lambda: count("heard", heard), heard)
            )
            for _ in range(500)
        ]
        async with asyncio.timeout(300):
            await opened.wait()
            await ask(url, [request(url, stealing, "watched", stolen[i : i + 50]) for i in range(0, 500, 50)])
            rng = np.random.default_rng(1)
            await ask(url, [request(url, honest, "open", rng.random((1, *SHAPE), np.float32)) for _ in range(200)])
            await heard.wait()
            await asyncio.gather(*readers)
        return counts

    assert asyncio.run(run()) == {"open": 500, "heard": 500}
    with httpx.Client() as client:  # the server is well, and lets go of what the readers held
        for _ in range(600):
            assert client.get(f"{url}/v2/health/ready").status_code == 200
            if process.num_fds() <= before + 10:
                break
    assert process.num_fds() <= before + 10


def test_a_state_folder_that_cannot_be_written_ends_the_start_in_one_line(tmp_path, network, cache):
    config = configured(tmp_path, network, cache)
    done = command("server", "--config", config, "--state", "/proc/range", "--port", 0, cwd=tmp_path)
    print(done.stderr)
    assert done.returncode == 2
    assert "/proc/range" in done.stderr
    assert "Traceback" not in done.stderr
