"""A load generator as a process of its own: ``python -m benchmarks.serving.load < task.json``.

Each connection sends one fixed request, waits for the answer, and sends it again; nothing is drawn, parsed or
waited for beyond that, since on two cores what the client costs the server does not get. Any status but 200 is an
error. It ends by itself when its time is over, whatever the server does.
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
    """What a window of time held.

    Attributes:
        seconds: Length of the window.
        answers: Answers with status 200 that came in the window.
        p50: Median latency of these, in milliseconds.
        p99: 99th percentile of their latency.
        errors: Number of other answers, by status, and of what else went wrong, by what it was.
        first_error: Beginning of the first such answer's body.
        server_cpu: CPU seconds that the server's processes took in the window.
        client_cpu: CPU seconds that this process took in the window.
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
    """Sums the CPU time of processes and of those that descend from them, in seconds.

    The kernel's per-process times are exact to a tick, and hold those of threads that ended.
    """
    total = 0.0
    for process in (member for pid in pids for member in process_tree(pid)):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


class Client:
    """Some connections that share a tally."""

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
        """Loads a server for some seconds, the first of which are not counted."""
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
        """Takes whose connection it is, and the bytes of the request."""
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
        """Reads on."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._client.errors["no HTTP"] += 1
            self._client.first_error = self._client.first_error or str(error)
            self.close()

    def on_body(self, part: bytes) -> None:
        """Keeps the beginning of an answer, to tell what was wrong with it."""
        self._body = self._body or part[:500]

    def on_message_complete(self) -> None:
        """Counts an answer, and asks again."""
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
        pids: The server's processes, whose CPU time (with that of their descendants) is told.
        port: Where it listens.
        requests: What each connection sends, again and again.
        warmup: Seconds before the window.
        seconds: Length of the window.
        host: Where it listens.
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
