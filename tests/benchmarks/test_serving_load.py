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

from benchmarks.machine import Clocks, cpu_seconds, processor
from benchmarks.serving.connections import HttpConnection
from benchmarks.serving.load import DRAIN, Client, load, precise_loop

REQUEST = b"POST /x HTTP/1.1\r\nHost: here\r\nContent-Length: 4\r\n\r\nrows"


def answer(status=200, body=b"right"):
    return b"HTTP/1.1 %d Said\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)


@contextlib.contextmanager
def serving(reply, bodies=None):
    """Serves in a thread: ``await reply(number)`` tells what answers the request of that number; None hangs up."""
    loop, seen = asyncio.new_event_loop(), []

    async def handle(reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                request = await reader.readexactly(len(REQUEST))
                assert request[:-4] == REQUEST[:-4]
                if bodies is not None:
                    bodies.append(request[-4:])
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


def loaded(port, connections=2, warmup=0.1, seconds=0.4, rate=None):
    client = Client([os.getpid()], rate)
    open_ones = [HttpConnection(client, [REQUEST]) for _ in range(connections)]
    with asyncio.Runner(loop_factory=precise_loop) as runner:
        return runner.run(client.run("127.0.0.1", port, open_ones, warmup=warmup, seconds=seconds))


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
        await asyncio.sleep(2)
        return answer()

    async def nonsense(number):
        return b"what?\r\n\r\n"

    for reply, error in ((closing, "lost"), (silent, "no answer"), (nonsense, "no HTTP")):
        with serving(reply) as (port, _):
            begun = time.perf_counter()
            tally = loaded(port)
            assert time.perf_counter() - begun < 0.5 + DRAIN + 0.4
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


def test_an_open_loop_asks_at_its_rate_whatever_the_server_does():
    async def reply(number):
        await asyncio.sleep(0.02)
        return answer()

    with serving(reply) as (port, seen):
        tally = loaded(port, connections=20, warmup=0.2, seconds=1, rate=100)
    assert tally.errors == {} and tally.answers == pytest.approx(100, abs=20)
    assert len(seen) == pytest.approx(120, abs=25)
    assert tally.p50 >= 20 and tally.waiting < 20


def test_a_stall_counts_for_every_request_that_fell_due_in_it():
    async def reply(number):
        if number == 10:
            time.sleep(0.5)  # the whole server stalls
        return answer()

    # In a closed loop one latency of hundreds shows the stall; in an open one, each request due meanwhile does.
    with serving(reply) as (port, _):
        closed = loaded(port, connections=1, warmup=0, seconds=1)
    with serving(reply) as (port, _):
        opened = loaded(port, connections=1, warmup=0, seconds=1, rate=100)
    assert closed.p50 < 100
    assert opened.answers == pytest.approx(100, abs=20) and opened.p99 > 300


def test_requests_that_wait_at_the_end_count_with_the_time_they_waited():
    async def reply(number):
        await asyncio.sleep(0.1)
        return answer()

    with serving(reply) as (port, _):  # 10 a second of 100
        tally = loaded(port, connections=1, warmup=0, seconds=1, rate=100)
    assert tally.answers <= 11 and tally.waiting == pytest.approx(100 - tally.answers, abs=5)
    assert 300 < tally.p50 < 700 and tally.p99 > 800


def test_connections_send_their_requests_in_turn():
    asked = []

    async def reply(number):
        return answer()

    with serving(reply, asked) as (port, _):
        client = Client([os.getpid()])
        connection = HttpConnection(client, [REQUEST, REQUEST.replace(b"rows", b"more")])
        asyncio.run(client.run("127.0.0.1", port, [connection], warmup=0, seconds=0.2))
    assert asked[:4] == [b"rows", b"more", b"rows", b"more"]


def test_grpc_is_loaded_and_its_refusals_are_errors():
    from concurrent.futures import ThreadPoolExecutor

    import grpc

    from benchmarks.serving.v2_grpc import MODEL_INFER

    class Handler(grpc.GenericRpcHandler):
        def service(self, details):
            assert details.method == MODEL_INFER
            return grpc.unary_unary_rpc_method_handler(self.answer)

        def answer(self, request, context):
            if request == b"wrong":
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, "wrong rows")
            return b"right"

    with ThreadPoolExecutor(2) as threads:
        server = grpc.server(threads, handlers=[Handler()])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        given = {"warmup": 0.1, "seconds": 0.5, "protocol": "grpc"}
        right = load([os.getpid()], port, [[b"rows"]] * 2, **given)
        wrong = load([os.getpid()], port, [[b"rows", b"wrong"]], **given, rate=100)
        server.stop(0).wait()
    assert right.answers > 0 and right.errors == {}
    assert wrong.answers > 0 and set(wrong.errors) == {"INVALID_ARGUMENT"} and wrong.first_error == "wrong rows"


def test_the_machine_is_told():
    assert set(processor()) <= {"vendor", "family", "model", "stepping", "flags"}
    start = Clocks.read([os.getpid()])
    while time.process_time() - start.client < 0.1:
        pass
    passed = Clocks.read([os.getpid()]).since(start)
    assert passed.client >= 0.1 and passed.wall >= 0.1 and passed.steal >= 0
    assert passed.server >= 0.05 and passed.all >= 0.05  # to a tick or two


def test_it_runs_as_a_process_of_its_own():
    async def reply(number):
        return answer()

    with serving(reply) as (port, _):
        tally = load([os.getpid()], port, [[REQUEST]] * 2, warmup=0.1, seconds=0.5)
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
