"""Forward passes on a GPU, two at a time.

Every pass is padded with zeros to one of a few sizes. Each size is captured in a CUDA graph at start, so a pass is
one launch and takes no memory, and the kernels that answer a row depend on the size of its pass alone. A lane is a
stream with buffers and graphs of its own; with two, the copies of one pass run beside the kernels of the other.
"""

from __future__ import annotations

import logging
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from queue import SimpleQueue

import numpy as np
import torch

from wire import Array
from zoo.network import Network

SIZES = (1, 8, 32, 64, 128, 256, 512, 1024)  # rows of a pass
LANES = 2
GAIN = 1.05  # rows a second of a size over those of any smaller one that make it worth its memory
REACH = 8  # times the greatest size that pays, the sizes beyond which are not tried
SHARE = 0.5  # of the free memory that the passes of a victim may take
TRIALS = 3  # passes of a size, the fastest of which counts

log = logging.getLogger(__name__)

Forward = Callable[[torch.Tensor], torch.Tensor]
Trial = Callable[[int], tuple[float, int]]

_one_arithmetic = threading.RLock()


class Lane:
    """A stream with its buffers and graphs; it runs one pass at a time."""

    def __init__(self, forward: Forward, rows: torch.Tensor, sizes: Sequence[int]) -> None:
        """Makes the buffers, and runs a pass of each size.

        Args:
            forward: From rows to class probabilities, ``(n, k)`` float32, both on the device.
            rows: A pass of the greatest size, on the device.
            sizes: Sizes of passes, ascending.
        """
        cuda = rows.is_cuda
        self._forward, self._sizes, self._rows = forward, tuple(sizes), rows.clone()
        self._stream = torch.cuda.Stream(rows.device) if cuda else None  # type: ignore[no-untyped-call]
        # A wait that spins would take a core.
        self._done = torch.cuda.Event(blocking=True) if cuda else None  # type: ignore[no-untyped-call]
        self._graphs: dict[int, tuple[torch.cuda.CUDAGraph, torch.Tensor]] = {}
        if cuda:
            torch.cuda.synchronize(rows.device)  # the weights and rows may still be on their way
        with torch.inference_mode(), self._on_stream():
            probs = [forward(self._rows[:size]) for size in self._sizes][-1]
        self._sent = torch.empty(rows.shape, dtype=rows.dtype, pin_memory=cuda)
        self._told = torch.empty(probs.shape, dtype=probs.dtype, pin_memory=cuda)
        self._sent_array, self._told_array = self._sent.numpy(), self._told.numpy()

    def capture(self) -> None:
        """Captures a graph of each size; they share their memory, since one runs at a time.

        Raises:
            RuntimeError: The forward pass cannot be captured.
        """
        with _one_arithmetic, torch.inference_mode(), self._on_stream(), _without_waits():
            self._forward(self._rows[: self._sizes[0]])
        pool = torch.cuda.graph_pool_handle()
        captured = {}
        for size in reversed(self._sizes):  # the smaller ones fit into the memory of the greatest
            graph = torch.cuda.CUDAGraph()
            whole = torch.cuda.graph(graph, pool, self._stream, capture_error_mode="thread_local")
            # A capture that fails leaves its stream the current one; the outer context puts that right.
            with _one_arithmetic, torch.inference_mode(), self._on_stream(), whole:
                captured[size] = graph, self._forward(self._rows[:size])
        self._graphs = captured

    def __call__(self, parts: Sequence[Array], size: int | None = None) -> Array:
        """Answers about the rows of all parts, in a pass of a size; by default the smallest that holds them."""
        n = sum(len(part) for part in parts)
        if size is None:
            size = next(size for size in self._sizes if size >= n)
        np.concatenate(parts, out=self._sent_array[:n])
        with torch.inference_mode(), self._on_stream():
            rows = self._rows[:size]
            rows[:n].copy_(self._sent[:n], non_blocking=True)
            rows[n:].zero_()
            if size in self._graphs:
                graph, probs = self._graphs[size]
                graph.replay()
            else:
                probs = self._forward(rows)
            self._told[:n].copy_(probs[:n], non_blocking=True)
        if self._done is not None:
            self._done.record(self._stream)
            self._done.synchronize()
        return self._told_array[:n].copy()

    def _on_stream(self) -> torch.cuda.StreamContext:
        return torch.cuda.stream(self._stream)  # without a stream, it does nothing


class Lanes:
    """Runs the passes of a network on its device; a :data:`~server.deployment.engine.Predict`.

    Attributes:
        rows: Most rows in a pass.
        doubts: What :func:`doubts` says of it.
    """

    def __init__(
        self, network: Network, rows: Array, *, name: str, sizes: Sequence[int] = (), tf32: bool = False
    ) -> None:
        """Chooses the sizes of passes, captures them, and logs what a row's answer depends on.

        Args:
            network: The network.
            rows: Some rows to try.
            name: The victim's name in the log.
            sizes: Sizes of passes, ascending; none for those of :data:`SIZES` that pay and fit.
            tf32: Whether products may round their factors to TF32 (10 bits of mantissa).
        """
        cuda = network.device.type == "cuda"
        forward = forward_of(network, layout_of(network, tf32), tf32)
        examples = torch.from_numpy(rows).to(network.device)
        if not sizes:
            free = torch.cuda.mem_get_info(network.device)[0]
            sizes = climb(_trial(forward, examples), SHARE * free / LANES)
        self.rows = sizes[-1]
        full = _repeated(examples, self.rows)
        lanes = [Lane(forward, full, sizes) for _ in range(LANES)]
        if cuda:
            try:
                for lane in lanes:
                    lane.capture()
            except RuntimeError as error:
                fault = str(error).partition("\n")[0]
                log.warning("%s runs without CUDA graphs, since it cannot be captured: %s", name, fault)
                lanes = [Lane(forward, full, sizes) for _ in range(LANES)]  # a failed capture spoils its stream
            torch.cuda.empty_cache()  # what the trials took
        self._free: SimpleQueue[Lane] = SimpleQueue()
        for lane in lanes:
            self._free.put(lane)
        self.doubts = tuple(doubts(lanes[0], sizes, rows))
        for doubt in self.doubts:
            log.warning("%s: %s", name, doubt)

    def __call__(self, parts: Sequence[Array]) -> Array:
        """Answers about the rows of all parts, at most :attr:`rows`, ``(n, k)`` float32; waits for a lane.

        Raises:
            MemoryError: The GPU has too little free memory for this pass.
        """
        lane = self._free.get()
        try:
            return lane(parts)
        except torch.OutOfMemoryError as error:
            fault = str(error).partition(". ")[0]
        finally:
            self._free.put(lane)
        torch.cuda.empty_cache()  # only now, since the error held the tensors of the pass
        raise MemoryError(fault)


def climb(trial: Trial, budget: float) -> tuple[int, ...]:
    """Returns the sizes of :data:`SIZES` up to the last that pays and fits, ascending.

    Args:
        trial: From a size to the seconds and the bytes that its pass takes; raises
            :class:`torch.OutOfMemoryError`.
        budget: Most bytes of a pass.
    """
    paying, best = SIZES[0], SIZES[0] / trial(SIZES[0])[0]
    for size in SIZES[1:]:
        if size > REACH * paying:
            break
        try:
            seconds, memory = trial(size)
        except torch.OutOfMemoryError:
            break
        if memory > budget:
            break
        if size / seconds >= GAIN * best:
            paying, best = size, size / seconds
    return tuple(size for size in SIZES if size <= paying)


def doubts(run: Callable[[Sequence[Array], int], Array], sizes: Sequence[int], rows: Array) -> Iterator[str]:
    """Yields what a row's answer depends on beside the row, to the last bit.

    Args:
        run: Answers about parts in a pass of a size.
        sizes: Sizes of passes, ascending.
        rows: Some rows to try, the first of them in every size.
    """
    alone: dict[int, Array] = {}
    changing: dict[str, list[int]] = {}
    for size in sizes:
        alone[size] = run([rows[:1]], size)[0]
        again = run([rows[:1]], size)[0]
        among = np.resize(rows, (size, *rows.shape[1:]))
        among[-1] = rows[0]
        first, last = run([among], size)[[0, -1]]
        for how, one, other in (
            ("from run to run", alone[size], again),
            ("with the rows beside it", alone[size], first),
            ("with its place among them", first, last),
        ):
            if not np.array_equal(one, other):
                changing.setdefault(how, []).append(size)
    for how, found in changing.items():
        yield f"in a pass of {_listed(found)} rows, a row's probabilities change {how}"
    differing = [size for size in sizes if not np.array_equal(alone[size], alone[sizes[-1]])]
    if differing:
        most = max(float(np.abs(alone[size] - alone[sizes[-1]]).max()) for size in differing)
        yield (
            f"a row's probabilities in a pass of {_listed(differing)} rows differ by up to {most:.0e} "
            f"from those in {sizes[-1]}; pass_rows makes all passes one size"
        )


@contextmanager
def _without_waits() -> Iterator[None]:
    """Makes torch refuse what waits for the GPU.

    A wait breaks a capture, after which torch's allocator takes the capture to go on: as long as the process lives
    it returns no memory to the GPU.
    """
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that torch does not notice every wait
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


@contextmanager
def arithmetic(tf32: bool) -> Iterator[None]:
    """Chooses the arithmetic of products launched or captured inside; torch's switch is for the whole process."""
    with _one_arithmetic:
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32
        try:
            yield
        finally:
            torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False


def layout_of(network: Network, tf32: bool) -> torch.memory_format:
    """Returns the layout of images in which a network's kernels are fast.

    Channels last for tensor cores alone: on an H200, passes of 1,024 rows through ResNets take 0.6 to 0.8 times as
    long then as with channels first, but 1.07 to 1.16 times in float32.
    """
    parameter = next(network.module.parameters(), None)
    tensor_cores = tf32 or (parameter is not None and parameter.dtype == torch.bfloat16)
    images = len(network.input_shape) == 3
    return torch.channels_last if images and tensor_cores else torch.contiguous_format


def forward_of(network: Network, layout: torch.memory_format, tf32: bool) -> Forward:
    """Returns a network's forward pass on its device; the weights take the layout too."""
    answering = network.answering()
    answering.to(memory_format=layout)  # type: ignore[call-overload]

    def forward(rows: torch.Tensor) -> torch.Tensor:
        with arithmetic(tf32):
            probs: torch.Tensor = answering(rows.contiguous(memory_format=layout))
            return probs

    return forward


def _listed(sizes: Sequence[int]) -> str:
    return ", ".join(map(str, sizes))


def _trial(forward: Forward, examples: torch.Tensor) -> Trial:
    device = examples.device

    @torch.inference_mode()
    def trial(size: int) -> tuple[float, int]:
        rows, took = _repeated(examples, size), []
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        for _ in range(1 + TRIALS):  # the first warms up
            start = time.perf_counter()
            forward(rows)
            torch.cuda.synchronize(device)
            took.append(time.perf_counter() - start)
        return min(took[1:]), torch.cuda.max_memory_allocated(device) - before

    return trial


def _repeated(rows: torch.Tensor, n: int) -> torch.Tensor:
    """Returns n rows, taken in turn from some."""
    return rows[torch.arange(n, device=rows.device) % len(rows)]
