"""A load generator as a process of its own: ``python -m benchmarks.serving.load < task``.

In a closed loop each connection sends its next request when the last is answered, so that a slow server is asked
less. In an open loop requests fall due at a constant rate, whatever the server does; one that is due while every
connection waits is sent as soon as a connection is free. Its latency counts from when it was due, as in wrk2: else
a server that stalls would be asked less, and its stall would show in one latency per connection ("coordinated
omission"). Requests that are still unanswered at the end count with the time that they have waited.

Each connection sends requests of its own in turn. The client does nothing else, since on two cores it takes its
time from the server: from some 20,000 requests a second on, one process in Python measures itself. Its own time is
among the figures. Any status other than 200 is an error. The generator ends when its time is over.
"""

from __future__ import annotations

import asyncio
import gc
import json
import selectors
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain
from typing import Any

from benchmarks.machine import Clocks
from benchmarks.serving.connections import Connection, HttpConnection

DRAIN = 1.0
"""Seconds that the last answers may take after the window.

MLServer's batching fails a whole batch when one of its callers has hung up: a load that ended abruptly would be an
error of the next one.
"""


@dataclass
class Tally:
    """The figures of a window of time.

    Attributes:
        seconds: Length of the window.
        answers: Answers with status 200 in the window.
        p50: Median latency of these, in milliseconds.
        p99: 99th percentile of their latency.
        waiting: Requests that were due and not answered at the end; always 0 in a closed loop.
        late: 99th percentile of the milliseconds by which the client missed a due time though a connection was
            free; 0 in a closed loop.
        errors: Number of other answers, by status, and of other errors, by kind.
        first_error: Beginning of the first such answer's body.
        server_cpu: CPU seconds of the server's processes in the window.
        client_cpu: CPU seconds of this process in the window.
        other_cpu: CPU seconds of everything else on the machine in the window.
        steal: CPU seconds that the hypervisor gave to other machines in the window.
    """

    seconds: float = 0.0
    answers: int = 0
    p50: float = 0.0
    p99: float = 0.0
    waiting: int = 0
    late: float = 0.0
    errors: dict[str, int] = field(default_factory=dict)
    first_error: str = ""
    server_cpu: float = 0.0
    client_cpu: float = 0.0
    other_cpu: float = 0.0
    steal: float = 0.0


class Client:
    """Connections that share a tally.

    Attributes:
        rate: Requests per second of an open loop; None in a closed one.
        over: Whether the time is over.
    """

    def __init__(self, pids: Sequence[int], rate: float | None = None) -> None:
        """Takes the server's processes, and the requests per second of an open loop."""
        self.over = False
        self.errors: Counter[str] = Counter()
        self.first_error = ""
        self._pids, self.rate = pids, rate
        self._recording = False
        self._latencies: list[float] = []
        self._lags: list[float] = []
        self._due: dict[Connection, float] = {}  # of the request that a connection waits for
        self._free: deque[Connection] = deque()
        self._overdue: deque[float] = deque()
        self._next = 0.0

    async def run(
        self, host: str, port: int, connections: Sequence[Connection], *, warmup: float, seconds: float
    ) -> Tally:
        """Loads a server for some seconds; the warm-up is not counted."""
        for connection in connections:
            try:
                await connection.open(host, port)
            except OSError as error:
                self.failed("no connection", str(error))
            else:
                self._free.append(connection)
        self._begin()
        await asyncio.sleep(warmup)
        start = Clocks.read(self._pids)
        self._recording = True
        await asyncio.sleep(seconds)
        end = Clocks.read(self._pids)
        self._recording, self.over = False, True
        tally = self._tally(start, end, len(connections))
        deadline = end.wall + DRAIN
        while self._due and time.perf_counter() < deadline:
            await asyncio.sleep(0.01)
        for connection in connections:
            connection.close()
        return tally

    def answered(self, connection: Connection) -> None:
        """Counts an answer; the connection is free for its next request."""
        if self._recording:
            self._latencies.append(time.perf_counter() - self._due[connection])
        self._go_on(connection)

    def refused(self, connection: Connection, kind: str, body: str) -> None:
        """Counts an answer that is an error; the connection is free all the same."""
        self.failed(kind, body)
        self._go_on(connection)

    def failed(self, kind: str, message: str) -> None:
        """Counts an error of a connection that answers no more."""
        self.errors[kind] += 1
        self.first_error = self.first_error or message

    def _begin(self) -> None:
        self._next = time.perf_counter()
        if self.rate is not None:
            self._pace(self.rate)
        else:
            while self._free:
                self._send(self._free.popleft(), time.perf_counter())

    def _pace(self, rate: float) -> None:
        now = time.perf_counter()
        while self._next <= now and not self.over:
            if self._free:
                if self._recording:
                    self._lags.append(now - self._next)
                self._send(self._free.popleft(), self._next)
            else:
                self._overdue.append(self._next)
            self._next += 1 / rate
        if not self.over:
            asyncio.get_running_loop().call_later(self._next - now, self._pace, rate)

    def _go_on(self, connection: Connection) -> None:
        if self.over:
            del self._due[connection]
        elif self.rate is None:
            self._send(connection, time.perf_counter())
        elif self._overdue:
            self._send(connection, self._overdue.popleft())
        else:
            del self._due[connection]
            self._free.append(connection)

    def _send(self, connection: Connection, due: float) -> None:
        self._due[connection] = due
        connection.send()

    def _tally(self, start: Clocks, end: Clocks, connections: int) -> Tally:
        answers = len(self._latencies)
        waiting = [] if self.rate is None else [end.wall - due for due in [*self._due.values(), *self._overdue]]
        if not answers and not self.errors:
            self.errors["no answer"] = connections
        latencies, lags = sorted([*self._latencies, *waiting]) or [0.0], sorted(self._lags) or [0.0]
        passed = end.since(start)
        return Tally(
            passed.wall,
            answers,
            1e3 * latencies[len(latencies) // 2],
            1e3 * latencies[len(latencies) * 99 // 100],
            len(waiting),
            1e3 * lags[len(lags) * 99 // 100],
            dict(self.errors),
            self.first_error,
            passed.server,
            passed.client,
            max(0.0, passed.all - passed.server - passed.client),
            passed.steal,
        )


def load(
    pids: Sequence[int],
    port: int,
    requests: Sequence[Sequence[bytes]],
    *,
    warmup: float,
    seconds: float,
    rate: float | None = None,
    protocol: str = "http",
    host: str = "127.0.0.1",
) -> Tally:
    """Runs a load generator in a process of its own.

    Args:
        pids: The server's processes; their CPU time is measured, with that of their descendants.
        port: The server's port.
        requests: The requests of each connection.
        warmup: Seconds before the window.
        seconds: Length of the window.
        rate: Requests per second of an open loop; the loop is closed without it.
        protocol: ``http`` or ``grpc``.
        host: The server's host.
    """
    task = {
        "pids": list(pids),
        "host": host,
        "port": port,
        "lengths": [list(map(len, many)) for many in requests],
        "warmup": warmup,
        "seconds": seconds,
        "rate": rate,
        "protocol": protocol,
    }
    ran = subprocess.run(
        [sys.executable, "-m", "benchmarks.serving.load"],
        input=b"\n".join([json.dumps(task).encode(), b"".join(chain.from_iterable(requests))]),
        stdout=subprocess.PIPE,
        check=True,
        timeout=warmup + seconds + 60,
    )
    return Tally(**json.loads(ran.stdout))


def main() -> None:
    """Reads a task and its requests from the standard input, and writes the tally to the standard output."""
    import uvloop

    task: dict[str, Any] = json.loads(sys.stdin.buffer.readline())
    requests = [[sys.stdin.buffer.read(length) for length in many] for many in task.pop("lengths")]
    client, kind = Client(task.pop("pids"), task.pop("rate")), _kind(task.pop("protocol"))
    # The usual loops wake at whole milliseconds, too late for an open loop's due times.
    loops = uvloop.new_event_loop if client.rate is None else precise_loop
    with asyncio.Runner(loop_factory=loops) as runner:
        gc.disable()  # a pause of the client's would be told as the server's
        tally = runner.run(client.run(connections=[kind(client, many) for many in requests], **task))
    json.dump(asdict(tally), sys.stdout)


def _kind(protocol: str) -> Callable[[Client, Sequence[bytes]], Connection]:
    if protocol == "http":
        return HttpConnection
    from benchmarks.serving.v2_grpc import GrpcConnection

    return GrpcConnection


def precise_loop() -> asyncio.AbstractEventLoop:
    """Returns an event loop that wakes at microseconds; it can hold some 1,000 connections."""
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


if __name__ == "__main__":
    main()
