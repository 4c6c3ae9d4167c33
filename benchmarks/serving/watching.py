"""The cost of PRADA over HTTP, by the number of rows that an account has sent before."""

from __future__ import annotations

import socket
import statistics
import time
from collections.abc import Iterator

import numpy as np

from benchmarks.machine import Clocks
from benchmarks.serving.cases import WATCHED
from benchmarks.serving.encodings import BINARY
from benchmarks.serving.servers import Running
from benchmarks.serving.targets import Figure
from wire import Array

ROWS, REQUESTS = 64, 16  # in a request; timed after each number of rows
BEFORE = (0, 1_000, 10_000, 50_000)
COURSES = len(BEFORE) + 1
"""Figures of a round."""


def course(server: Running, pool: Array, round_number: int) -> Iterator[tuple[str, Figure]]:
    """Sends distinct rows of a new account over one connection and times some requests now and then.

    Args:
        server: Our server, with a victim behind PRADA.
        pool: Rows that the sent rows resemble.
        round_number: The number of the round, which names the account.

    Yields:
        The names and figures: the bare victim's, and those of the victim behind PRADA after each number of rows.
        Processor time is exact to a tick of the kernel, 10 ms.
    """
    assert server.account is not None
    headers = {"Authorization": f"Bearer {server.account(f'watched-{round_number}')}"}
    rng = np.random.default_rng(round_number)
    with socket.create_connection(("127.0.0.1", server.ports["http"]), timeout=60) as connection:

        def ask(model: str, requests: int) -> Figure:
            start, took = Clocks.read(server.pids), []
            for _ in range(requests):
                request = BINARY.request(model, _new_rows(pool, rng), headers)
                sent = time.perf_counter()
                BINARY.exchange(connection, request)
                took.append(time.perf_counter() - sent)
            passed, latency = Clocks.read(server.pids).since(start), statistics.median(took)
            return Figure(
                ROWS / latency,
                1e6 * passed.server / (ROWS * requests),
                1e3 * latency,
                1e3 * max(took),
                client=passed.client / passed.wall,
                others=max(0.0, passed.all - passed.server - passed.client) / passed.wall,
                steal=passed.steal / passed.wall,
            )

        ask("cnn", REQUESTS)  # warms up
        yield f"{WATCHED.name} binary {ROWS}x1", ask("cnn", REQUESTS)
        sent = 0
        for before in BEFORE:
            if more := max(0, -(-(before - sent) // ROWS)):
                ask("cnn-prada", more)
            yield f"{WATCHED.name} cnn-prada binary {ROWS}x1 after {before} rows", ask("cnn-prada", REQUESTS)
            sent += ROWS * (more + REQUESTS)


def _new_rows(pool: Array, rng: np.random.Generator) -> Array:
    """Returns rows of pixels that were never sent before."""
    near = pool[rng.integers(len(pool), size=ROWS)] + rng.normal(0, 0.1, (ROWS, *pool.shape[1:]))
    x: Array = np.rint(255 * near.clip(0, 1)).astype(np.float32) / np.float32(255)
    return x
