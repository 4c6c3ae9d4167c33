"""A load generator as a process of its own: ``python -m benchmarks.serving.load < task.json``.

Each connection sends one fixed request, waits for the answer, and sends it again. It does nothing else, since on
two cores the client takes its time from the server. Any status other than 200 is an error. The generator ends when
its time is over, whatever the server does.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, cast

import httptools
import psutil

from experiments.processes import process_tree


@dataclass
class Tally:
    """The figures of a window of time.

    Attributes:
        seconds: Length of the window.
        answers: Answers with status 200 in the window.
        p50: Median latency of these, in milliseconds.
        p99: 99th percentile of their latency.
        errors: Number of other answers, by status, and of other errors, by kind.
        first_error: Beginning of the first such answer's body.
        server_cpu: CPU seconds of the server's processes in the window.
        client_cpu: CPU seconds of this process in the window.
    """

    seconds: float = 0.0
    answers: int = 0
    p50: float = 0.0
    p99: float = 0.0
    errors: dict[str, int] = field(default_factory=dict)
    first_error: str = ""
    server_cpu: float = 0.0
    client_cpu: float = 0.0


def cpu_seconds(pids: Sequence[int]) -> float:
    """Returns the CPU time of processes and their descendants, in seconds.

    The kernel's times of a process are exact to a tick, and include threads that have ended.
    """
    total = 0.0
    for process in (member for pid in pids for member in process_tree(pid)):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


class Client:
    """Connections that share a tally."""

    def __init__(self, pids: Sequence[int]) -> None:
        """Takes the server's processes."""
        self.recording = self.over = False
        self.latencies: list[float] = []
        self.errors: Counter[str] = Counter()
        self.first_error = ""
        self._pids = pids

    async def run(
        self, host: str, port: int, requests: Sequence[bytes], *, warmup: float, seconds: float
    ) -> Tally:
        """Loads a server for some seconds; the warm-up is not counted."""
        loop = asyncio.get_running_loop()
        connections = [Connection(self, request) for request in requests]
        for connection in connections:
            try:
                await loop.create_connection(lambda held=connection: held, host, port)  # type: ignore[misc]
            except OSError as error:
                self.errors["no connection"] += 1
                self.first_error = self.first_error or str(error)
        await asyncio.sleep(warmup)
        server, client, start = cpu_seconds(self._pids), time.process_time(), time.perf_counter()
        self.recording = True
        await asyncio.sleep(seconds)
        self.recording, taken = False, time.perf_counter() - start
        client, server = time.process_time() - client, cpu_seconds(self._pids) - server
        self.over = True
        for connection in connections:
            connection.close()
        if not self.latencies and not self.errors:
            self.errors["no answer"] = len(connections)
        latencies = sorted(self.latencies) or [0.0]
        return Tally(
            taken,
            len(self.latencies),
            1e3 * latencies[len(latencies) // 2],
            1e3 * latencies[len(latencies) * 99 // 100],
            dict(self.errors),
            self.first_error,
            server,
            client,
        )


class Connection(asyncio.Protocol):
    """Sends one request again and again."""

    def __init__(self, client: Client, request: bytes) -> None:
        """Takes the client and the bytes of the request."""
        self._client, self._request = client, request
        self._transport: asyncio.WriteTransport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._body = b""
        self._sent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Sends the first request."""
        self._transport = cast(asyncio.WriteTransport, transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        """Parses a part of an answer."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._client.errors["no HTTP"] += 1
            self._client.first_error = self._client.first_error or str(error)
            self.close()

    def on_body(self, part: bytes) -> None:
        """Keeps the beginning of an answer, for the report of errors."""
        self._body = self._body or part[:500]

    def on_message_complete(self) -> None:
        """Counts an answer and sends the request again."""
        client, status = self._client, self._parser.get_status_code()
        if status != 200:
            client.errors[str(status)] += 1
            client.first_error = client.first_error or self._body.decode(errors="replace")
        elif client.recording:
            client.latencies.append(time.perf_counter() - self._sent)
        self._body = b""
        if not client.over:
            self._send()

    def connection_lost(self, error: Exception | None) -> None:
        """Counts a connection that the server closed."""
        if self._transport is not None and not self._client.over:
            self._client.errors["lost"] += 1

    def close(self) -> None:
        """Closes the connection."""
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    def _send(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._sent = time.perf_counter()
            self._transport.write(self._request)


def load(
    pids: Sequence[int],
    port: int,
    requests: Sequence[bytes],
    *,
    warmup: float,
    seconds: float,
    host: str = "127.0.0.1",
) -> Tally:
    """Runs a load generator in a process of its own.

    Args:
        pids: The server's processes; their CPU time is measured, with that of their descendants.
        port: The server's port.
        requests: The request of each connection.
        warmup: Seconds before the window.
        seconds: Length of the window.
        host: The server's host.
    """
    task = {
        "pids": pids,
        "host": host,
        "port": port,
        "requests": [base64.b64encode(request).decode() for request in requests],
        "warmup": warmup,
        "seconds": seconds,
    }
    ran = subprocess.run(
        [sys.executable, "-m", "benchmarks.serving.load"],
        input=json.dumps(task).encode(),
        stdout=subprocess.PIPE,
        check=True,
        timeout=warmup + seconds + 60,
    )
    return Tally(**json.loads(ran.stdout))


def main() -> None:
    """Reads a task from the standard input, and writes the tally to the standard output."""
    import uvloop

    task: dict[str, Any] = json.load(sys.stdin)
    requests = [base64.b64decode(request) for request in task.pop("requests")]
    client = Client(task.pop("pids"))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        tally = runner.run(client.run(requests=requests, **task))
    json.dump(asdict(tally), sys.stdout)


if __name__ == "__main__":
    main()
