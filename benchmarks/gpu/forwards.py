"""Raw forward passes of torch on a GPU, beside the server's engine: ``python -m benchmarks.gpu.forwards SECONDS``.

A pass is timed from rows on the GPU to probabilities in memory; a graph in float32 also from rows in pinned or
pageable memory. The engine is asked by two threads, with rows in arrays.
"""

from __future__ import annotations

import gc
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmarks.gpu.models import MODELS, Model, emit
from server.deployment import cuda
from server.deployment.cuda import Forward, Lanes, forward_of
from wire import Array

SIZES = cuda.SIZES
CHECKED = 64  # rows that are compared with the CPU's answers
LEAST = 3  # passes of a measurement


@dataclass(frozen=True)
class Way:
    """How torch computes.

    Attributes:
        precision: As in the settings of a victim.
        last: Whether images have their channels last.
        run: ``eager``, ``graph`` (a CUDA graph), ``searched`` (a graph of the kernels that cuDNN measured
            to be the fastest), or ``compile`` (torch.compile, mode reduce-overhead).
    """

    precision: str = "float32"
    last: bool = False
    run: str = "eager"

    def forward(self, model: Model, device: str) -> Forward:
        """Returns a model's forward pass on the device."""
        torch.backends.cudnn.benchmark = self.run == "searched"
        network = model.network(device)
        if self.precision == "bfloat16":
            network.module.to(torch.bfloat16)
        if self.run == "compile":
            network.module.compile(mode="reduce-overhead")
        layout = torch.channels_last if self.last else torch.contiguous_format
        return forward_of(network, layout, self.precision == "tf32")

    def on(self, forward: Forward, rows: torch.Tensor) -> Forward:
        """Returns a forward pass over rows like these, from any memory."""
        if self.run not in ("graph", "searched"):
            return lambda given: forward(given.to(rows.device, non_blocking=True))
        kept, graph = rows.clone(), torch.cuda.CUDAGraph()
        forward(kept)
        torch.cuda.synchronize()
        with torch.cuda.graph(graph):
            probs = forward(kept)

        def replay(given: torch.Tensor) -> torch.Tensor:
            kept.copy_(given, non_blocking=True)
            graph.replay()
            return probs

        return replay


PRECISIONS = ("float32", "tf32", "bfloat16")
GRAPHS = [Way(precision, last, "graph") for precision in PRECISIONS for last in (False, True)]
FEW = [Way(), Way(run="searched")]
COMPILED = [Way("float32", False, "compile"), Way("bfloat16", True, "compile")]


def main() -> None:
    """Measures every model."""
    seconds = float(sys.argv[1])
    for name, model in MODELS.items():
        engine(name, model, seconds, "cuda")
    for name, model in MODELS.items():
        measure(name, model, seconds, GRAPHS, SIZES, "cuda")
        measure(name, model, seconds, FEW, (1, CHECKED, SIZES[-1]), "cuda")
    for name, model in MODELS.items():
        measure(name, model, seconds, COMPILED, (CHECKED,), "cuda")


def engine(name: str, model: Model, seconds: float, device: str, sizes: Sequence[int] = ()) -> None:
    """Measures the server's engine in each precision, two passes in flight."""
    truth = model.network("cpu").predict(model.rows(CHECKED))
    for precision in PRECISIONS:
        network = model.network(device)
        if precision == "bfloat16":
            network.module.to(torch.bfloat16)
        start = time.perf_counter()
        lanes = Lanes(network, model.rows(CHECKED), name=name, sizes=sizes, tf32=precision == "tf32")
        told = {"model": name, "precision": precision, "way": "engine"}
        emit(**told, ready_after=time.perf_counter() - start, most_rows=lanes.rows, doubts=lanes.doubts)
        drawn = model.rows(lanes.rows)
        for n in [size for size in SIZES if size <= lanes.rows]:
            x = drawn[:n]
            with ThreadPoolExecutor(2) as pool:
                passes = sum(pool.map(_asked, [lanes] * 2, [x] * 2, [seconds] * 2))
            figures: dict[str, Any] = {"rows_per_second": n * passes / seconds}
            if n == CHECKED:
                figures["off"] = _off(lanes([model.rows(CHECKED)]), truth)
            emit(**told, rows=n, input="arrays", **figures)
        del lanes, network
        _free()


def measure(
    name: str, model: Model, seconds: float, ways: Sequence[Way], sizes: Sequence[int], device: str
) -> None:
    """Measures a model in several ways; one that fails is told of and left out."""
    truth = model.network("cpu").predict(model.rows(CHECKED))
    for way in ways:
        told = {"model": name, "precision": way.precision, "way": way.run, "channels_last": way.last}
        try:
            for figures in _measured(model, way, sizes, seconds, device, truth):
                emit(**told, **figures)
        except Exception as error:  # out of memory, or a compiler that is missing
            emit(**told, failed=f"{type(error).__name__}: {str(error).partition(chr(10))[0]}")
        _free()


@torch.inference_mode()
def _measured(
    model: Model, way: Way, sizes: Sequence[int], seconds: float, device: str, truth: Array
) -> Iterator[Mapping[str, Any]]:
    forward = way.forward(model, device)
    alone: Array | None = None
    drawn = torch.from_numpy(model.rows(max(sizes)))
    for n in sizes:
        x = torch.from_numpy(model.rows(CHECKED)) if n == CHECKED else drawn[:n]
        on_device = x.to(device)
        run = way.on(forward, on_device)
        probs = run(on_device).cpu().numpy()
        alone = probs[0].copy() if n == 1 else alone
        figures: dict[str, Any] = {} if alone is None else {"row_alone_off": _off(probs[0], alone)}
        if n == CHECKED:
            figures["off"] = _off(probs, truth)
        elsewhere = way == Way(run="graph") and n >= CHECKED
        for kind, rows in _inputs(x, on_device, elsewhere):
            took = sorted(_times(run, rows, seconds))
            yield {
                "rows": n,
                "input": kind,
                "milliseconds": 1e3 * statistics.median(took),
                "quartiles": [1e3 * took[len(took) // 4], 1e3 * took[3 * len(took) // 4]],
                "rows_per_second": n / statistics.median(took),
                **figures,
            }
        del run


def _inputs(x: torch.Tensor, on_device: torch.Tensor, elsewhere: bool) -> Iterator[tuple[str, torch.Tensor]]:
    yield "device", on_device
    if elsewhere:
        yield "pageable", x
        yield "pinned", x.pin_memory()


def _times(run: Forward, rows: torch.Tensor, seconds: float) -> list[float]:
    """Returns the seconds of some passes, each with its probabilities in memory."""
    run(rows).cpu()
    took, end = list[float](), time.perf_counter() + seconds
    while len(took) < LEAST or time.perf_counter() < end:
        start = time.perf_counter()
        run(rows).cpu()
        took.append(time.perf_counter() - start)
    return took


def _asked(lanes: Lanes, x: Array, seconds: float) -> int:
    passes, end = 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        lanes([x])
        passes += 1
    return passes


def _off(probs: Array, truth: Array) -> float:
    return float(np.abs(probs - truth).max())


def _free() -> None:
    torch.compiler.reset()
    gc.collect()
    torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
