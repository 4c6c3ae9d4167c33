"""A micro-batcher without a timer, between requests and an engine.

Whatever arrived in the same turn of the event loop, or while a pass runs, shares the next pass; a lone request
never waits. A request of more rows than a pass takes is divided, and others come in between.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from time import perf_counter, thread_time
from typing import NamedTuple

import numpy as np

from defenses.microbatch import MicroBatch
from server.deployment.engine import Engine
from wire import Array

INLINE = 0.0003  # seconds; a shorter pass blocks the event loop for less than a change of threads would cost
_WEIGHT = 1 / 8  # of the latest pass in the mean of those of its size

Observe = Callable[[int, float, float], None]


class _Part(NamedTuple):
    x: Array
    asked: float


class _Pass(NamedTuple):
    probs: Array
    start: float
    end: float
    cost: float  # seconds of its thread's processor time


class Batcher:
    """Puts the rows of concurrent requests into passes of an engine.

    A pass that is expected to be short runs in the event loop, any other in a thread; passes of about as many rows
    say what to expect. The first of a size runs in a thread.

    Attributes:
        most: Most rows of a pass.
    """

    def __init__(self, engine: Engine, executor: Executor, observe: Observe | None = None) -> None:
        """Takes the engine.

        Args:
            engine: The engine.
            executor: Runs passes that take too long to be run in the event loop, :attr:`Engine.width` at a time.
            observe: Called after each pass with its rows, the seconds for which the first of them had waited, and
                the seconds that it took.
        """
        self.most = engine.rows
        self._engine, self._executor, self._observe = engine, executor, observe
        # Processor time, which other processes do not prolong, by the bit length of the rows' number.
        self._costs = [math.inf] * (engine.rows.bit_length() + 1)
        self._passes: MicroBatch[_Part, Array] = MicroBatch(
            self._pass, size=lambda part: len(part.x), most=engine.rows, width=engine.width, even=engine.beside
        )

    async def __call__(self, x: Array) -> Array:
        """Answers about the rows ``x``, ``(n, ...)``: class probabilities, ``(n, k)``."""
        asked, most = perf_counter(), self.most
        if len(x) <= most:
            return await self._passes(_Part(x, asked))
        parts = [self._passes(_Part(x[at : at + most], asked)) for at in range(0, len(x), most)]
        return np.concatenate(await asyncio.gather(*parts))

    def _pass(self, parts: Sequence[_Part]) -> Sequence[Array] | Awaitable[Sequence[Array]]:
        rows = [part.x for part in parts]
        if self._engine.beside or self._costs[sum(map(len, rows)).bit_length()] > INLINE:
            return self._beside(parts, rows)
        return self._answers(parts, self._forward(rows))

    async def _beside(self, parts: Sequence[_Part], rows: Sequence[Array]) -> Sequence[Array]:
        forward = asyncio.get_running_loop().run_in_executor(self._executor, self._forward, rows)
        return self._answers(parts, await forward)

    def _answers(self, parts: Sequence[_Part], done: _Pass) -> Sequence[Array]:
        rows = len(done.probs)
        size = rows.bit_length()
        known = self._costs[size]
        self._costs[size] = done.cost if known == math.inf else known + _WEIGHT * (done.cost - known)
        if self._observe is not None:
            self._observe(rows, done.start - parts[0].asked, done.end - done.start)
        answers, at = [], 0
        for part in parts:
            answers.append(done.probs[at : at + len(part.x)])
            at += len(part.x)
        return answers

    def _forward(self, rows: Sequence[Array]) -> _Pass:
        start, begun = perf_counter(), thread_time()
        probs = self._engine.predict(rows)
        return _Pass(probs, start, perf_counter(), thread_time() - begun)
