"""Prometheus metrics of a running server, on a port of their own.

One process counts in memory, and :func:`serving` exposes the counts. Several workers count in files of a shared
folder, and their parent exposes the sums (:func:`gathering`). prometheus_client chooses between the two when it
is imported, by an environment variable that :func:`gathering` sets before the workers' fork server starts.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from tempfile import TemporaryDirectory
from time import monotonic, perf_counter
from typing import Any, Literal, cast
from wsgiref.types import WSGIApplication

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from defenses import Handler, Layer, RowWise
from defenses.defense import Change
from server.http import hosts
from wire import Answer, Array, BadInput, Query

_FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # the folder in which several processes count
_SECONDS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_SAMPLE = 16  # each layer times one in so many calls: timing costs as much as rounding an answer
_GPU_PERIOD = 1.0  # seconds between two readings of a GPU's memory, which cost more than all counting


class Telemetry:
    """The metrics of one application.

    Attributes:
        registry: The registry of the metrics.
        in_flight: How many requests are being answered; the caller raises and lowers it.
    """

    def __init__(self, release: str, gpu_memory: Callable[[], int] | None = None) -> None:
        """Creates metrics in a registry of their own.

        Args:
            release: The server's version.
            gpu_memory: Returns how many bytes the models hold on the GPU; None where none is used.
        """
        self.registry = registry = CollectorRegistry()

        def gauge(name: str, text: str, *labels: str, over: Literal["livesum", "max"] = "livesum") -> Gauge:
            return Gauge(f"mlaas_{name}", text, labels, registry=registry, multiprocess_mode=over)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"mlaas_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, *labels: str, buckets: tuple[float, ...] = _SECONDS) -> Histogram:
            return Histogram(f"mlaas_{name}", text, labels, buckets=buckets, registry=registry)

        build = gauge(
            "build_info", "Always 1; the labels name the versions.", "version", "python", "torch", over="max"
        )
        build.labels(release, platform.python_version(), version("torch")).set(1)
        self.in_flight = gauge("requests_in_flight", "Requests that are being answered.")
        # Children are cached by their labels, since prometheus_client's look-up costs more than counting.
        self._requests = cache(histogram("request_seconds", "Time to answer a request.", "route", "status").labels)
        self._rows = cache(counter("rows", "Rows answered.", "model").labels)
        self._refusals = cache(counter("refusals", "Requests refused.", "reason").labels)
        self._batches = cache(
            histogram("batch_rows", "Rows that shared a forward pass.", "model", buckets=_SIZES).labels
        )
        self._queues = cache(
            histogram("queue_seconds", "Time that a pass's first rows had waited for it.", "model").labels
        )
        self._forwards = cache(histogram("forward_seconds", "Time of a forward pass.", "model").labels)
        self._defences = cache(
            histogram(
                "defence_seconds", "Time in a defence, less that in the layers inside; sampled.", "defence"
            ).labels
        )
        alarms = Counter("range_alarms", "Alarms raised.", ("detector", "model", "reaction"), registry=registry)
        self._alarms = alarms.labels
        self._trips = histogram("store_seconds", "Time of a round trip to the store.")
        self._charges = histogram("store_charges", "Charges that shared a round trip.", buckets=_SIZES)
        self._gpu_memory = gpu_memory
        if gpu_memory is not None:
            self._gpu = gauge("gpu_memory_bytes", "Bytes that the models hold on the GPU.")
            self._read_gpu(gpu_memory)

    def request(self, route: str, status: int, seconds: float) -> None:
        """Counts an answered request, by its route's template."""
        self._requests(route, status).observe(seconds)

    def rows(self, model: str, n: int) -> None:
        """Counts rows that were answered."""
        self._rows(model).inc(n)

    def refused(self, reason: str) -> None:
        """Counts a refusal by its reason: a limit's name, ``key``, ``malformed``, ``store``, ``drain``..."""
        self._refusals(reason).inc()

    def alarm(self, detector: str, model: str, reaction: str) -> None:
        """Counts an alarm that was raised."""
        self._alarms(detector, model, reaction).inc()

    def forward(self, model: str, rows: int, queue_seconds: float, forward_seconds: float) -> None:
        """Counts a forward pass."""
        self._batches(model).observe(rows)
        self._queues(model).observe(queue_seconds)
        self._forwards(model).observe(forward_seconds)
        if self._gpu_memory is not None and monotonic() >= self._gpu_due:
            self._read_gpu(self._gpu_memory)

    def trip(self, seconds: float, charges: int) -> None:
        """Counts a round trip to the store."""
        self._trips.observe(seconds)
        self._charges.observe(charges)

    def timed(self, kind: str, layer: Layer) -> Layer:
        """Returns a layer that counts its time."""
        observe = self._defences(kind).observe
        return RowWise(_Changing(layer.change, observe)) if isinstance(layer, RowWise) else _Timed(layer, observe)

    def _read_gpu(self, gpu_memory: Callable[[], int]) -> None:
        self._gpu.set(gpu_memory())
        self._gpu_due = monotonic() + _GPU_PERIOD


class _Timed:
    """A layer that counts its time, less that of the layers inside it."""

    def __init__(self, layer: Layer, observe: Callable[[float], None]) -> None:
        self._layer, self._observe = layer, observe
        self._queries = 0

    def __call__(self, query: Query, handle: Handler) -> Coroutine[Any, Any, Answer]:
        self._queries += 1
        if self._queries % _SAMPLE != 1:
            return self._layer(query, handle)
        return self._time(query, handle)

    async def _time(self, query: Query, handle: Handler) -> Answer:
        begun, inside = perf_counter(), 0.0

        async def inner(query: Query) -> Answer:
            nonlocal inside
            entered = perf_counter()
            try:
                return await handle(query)
            finally:
                inside += perf_counter() - entered

        try:
            return await self._layer(query, inner)
        finally:
            self._observe(perf_counter() - begun - inside)


class _Changing:
    """A change of answers that counts its time."""

    def __init__(self, change: Change, observe: Callable[[float], None]) -> None:
        self._change, self._observe = change, observe
        self._calls = 0

    def __call__(self, x: Array, answer: Answer) -> Answer:
        self._calls += 1
        if self._calls % _SAMPLE != 1:
            return self._change(x, answer)
        begun = perf_counter()
        try:
            return self._change(x, answer)
        finally:
            self._observe(perf_counter() - begun)


@contextmanager
def serving(
    host: str, port: int, registry: CollectorRegistry, names: frozenset[bytes] | None = None
) -> Iterator[str]:
    """Exposes metrics over HTTP, from a thread, while the block runs; yields their URL.

    Args:
        host: Address to bind.
        port: Port to bind.
        registry: The metrics.
        names: The names by which clients may call it; None if by any.

    Raises:
        BadInput: The address or the port is not available.
    """
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise BadInput(f"cannot show metrics at {host}:{port}: {error.strerror}") from None
    if names is not None:
        server.set_app(hosts.guarded(cast(WSGIApplication, server.get_app()), names))
    try:
        yield f"http://{host}:{server.server_port}/metrics"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def gathering(host: str, port: int, names: frozenset[bytes] | None = None) -> Iterator[str]:
    """Exposes the sums over the workers that are started while the block runs, as :func:`serving` does.

    Raises:
        BadInput: The address or the port is not available.
    """
    with TemporaryDirectory(prefix="mlaas-metrics-") as folder:
        registry = CollectorRegistry()
        MultiProcessCollector(registry, folder)  # type: ignore[no-untyped-call]
        with serving(host, port, registry, names) as url:
            os.environ[_FOLDER] = folder
            try:
                yield url
            finally:
                del os.environ[_FOLDER]


def ended(worker: int) -> None:
    """Forgets the requests in flight of a dead worker, by its process id; its counts stay."""
    if _FOLDER in os.environ:
        mark_process_dead(worker)  # type: ignore[no-untyped-call]
