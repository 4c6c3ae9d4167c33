"""The load generator against tiny servers whose answers, errors and delays are known."""

import asyncio
import contextlib
import os
import subprocess
import sys
import threading
import time

import psutil
import pytest

from benchmarks.serving.load import Client, cpu_seconds, load

REQUEST = b"POST /x HTTP/1.1\r\nHost: here\r\nContent-Length: 4\r\n\r\nrows"


def answer(status=200, body=b"right"):
    return b"HTTP/1.1 %d Said\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)


@contextlib.contextmanager
def serving(reply):
    """Serves in a thread: ``await reply(number)`` tells what answers the request of that number; None hangs up."""
    loop, seen = asyncio.new_event_loop(), []

    async def handle(reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                assert await reader.readexactly(len(REQUEST)) == REQUEST
                seen.append(None)
                said = await reply(len(seen))
                if said is None:
                    break
                writer.write(said)
        writer.close()

    server = loop.run_until_complete(asyncio.start_server(handle, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield server.sockets[0].getsockname()[1], seen
    finally:
        loop.call_soon_threadsafe(server.close)
        for _ in range(100):
            if not asyncio.all_tasks(loop):
                break
            time.sleep(0.01)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def loaded(port, connections=2, warmup=0.1, seconds=0.4):
    client = Client([os.getpid()])
    return asyncio.run(client.run("127.0.0.1", port, [REQUEST] * connections, warmup=warmup, seconds=seconds))


def test_answers_are_counted_and_timed():
    async def reply(number):
        await asyncio.sleep(0.02)
        return answer()

    with serving(reply) as (port, seen):
        tally = loaded(port, connections=3, warmup=0.6)
    assert tally.errors == {} and 0.4 <= tally.seconds < 0.6
    assert 20 <= tally.p50 <= tally.p99 < 200
    # In a closed loop each connection asks once per latency; those of the warm-up are not counted.
    assert tally.answers == pytest.approx(3 * 1e3 * tally.seconds / tally.p50, rel=0.3)
    assert 0 < tally.answers < len(seen)


def test_the_slow_hundredth_is_the_tail_and_not_the_median():
    async def reply(number):
        await asyncio.sleep(0.1 if number % 20 == 0 else 0.001)
        return answer()

    with serving(reply) as (port, _):
        tally = loaded(port, connections=1, seconds=1)
    assert tally.p50 < 50 and tally.p99 >= 100


def test_any_other_status_is_an_error_and_no_answer():
    async def reply(number):
        return answer(429, b"too many rows") if number % 2 else answer()

    with serving(reply) as (port, seen):
        tally = loaded(port)
    assert set(tally.errors) == {"429"} and tally.first_error == "too many rows"
    assert tally.errors["429"] == pytest.approx(len(seen) / 2, abs=2)
    assert 0 < tally.answers < len(seen) / 2


def test_lost_connections_silence_and_nonsense_are_errors_and_end_in_time():
    async def closing(number):
        return None

    async def silent(number):
        await asyncio.sleep(1)
        return answer()

    async def nonsense(number):
        return b"what?\r\n\r\n"

    for reply, error in ((closing, "lost"), (silent, "no answer"), (nonsense, "no HTTP")):
        with serving(reply) as (port, _):
            begun = time.perf_counter()
            tally = loaded(port)
            assert time.perf_counter() - begun < 0.9
        assert (tally.answers, tally.errors) == (0, {error: 2})


def test_a_server_that_is_not_there_is_an_error():
    with serving(None) as (port, _):
        pass
    assert loaded(port).errors == {"no connection": 2}


def test_answers_in_chunks_and_in_pieces_are_answers():
    async def reply(number):
        return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nright\r\n0\r\n\r\n"

    with serving(reply) as (port, _):
        tally = loaded(port)
    assert tally.answers > 0 and tally.errors == {}


def test_it_runs_as_a_process_of_its_own():
    async def reply(number):
        return answer()

    with serving(reply) as (port, _):
        tally = load([os.getpid()], port, [REQUEST] * 2, warmup=0.1, seconds=0.5)
    assert tally.answers > 0 and tally.errors == {}
    assert 0 < tally.server_cpu < 0.7 and 0 < tally.client_cpu < 0.7  # the tiny server runs in this process


def test_cpu_time_is_that_of_the_whole_tree():
    spin = "import time\nwhile time.process_time() < 0.4: pass\n"
    child = f"[sys.executable, '-c', {spin + 'time.sleep(60)'!r}]"
    parent = f"import subprocess, sys; subprocess.Popen({child}).wait()"
    with subprocess.Popen([sys.executable, "-c", parent]) as process:
        deadline = time.monotonic() + 30
        while cpu_seconds([process.pid]) < 0.4 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert cpu_seconds([process.pid]) >= 0.4
        for child in psutil.Process(process.pid).children():
            child.kill()
        process.kill()
    assert cpu_seconds([process.pid]) == 0
