"""A micro-batcher without a timer, between requests and an engine.

Whatever arrived in the same turn of the event loop, or while a pass runs, shares the next pass; a lone request
never waits. A request of more rows than a pass takes is divided, and others come in between.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from functools import partial
from time import perf_counter, thread_time
from typing import Any, NamedTuple

import numpy as np

from defenses.defense import Change
from defenses.microbatch import MicroBatch
from server.deployment.engine import Engine
from wire import Answer, Array

INLINE = 0.0003  # seconds; a shorter pass blocks the event loop for less than a change of threads would cost
WIDTH = 2  # passes at a time: one is computed while the event loop answers another and gathers the next
_WEIGHT = 1 / 8  # of the latest pass in the mean of those of its size

Observe = Callable[[int, float, float], None]


class _Part(NamedTuple):
    x: Array
    asked: float
    finish: Callable[[Array, Array], Any]


class _Pass(NamedTuple):
    rows: int
    results: Sequence[Any]
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
            executor: Runs passes that take too long to be run in the event loop, :data:`WIDTH` at a time.
            observe: Called after each pass with its rows, the seconds for which the first of them had waited, and
                the seconds that it took.
        """
        self.most = engine.rows
        self._engine, self._executor, self._observe = engine, executor, observe
        # Processor time, which other processes do not prolong, by the bit length of the rows' number.
        self._costs = [math.inf] * (engine.rows.bit_length() + 1)
        self._passes: MicroBatch[_Part, Any] = MicroBatch(
            self._pass, size=lambda part: len(part.x), most=engine.rows, width=WIDTH, even=engine.beside
        )

    async def __call__(self, x: Array) -> Array:
        """Returns the class probabilities of rows ``x``, ``(n, ...)``: ``(n, k)``."""
        parts = await self._ask(x, lambda x, probs: probs)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    async def answer(self, x: Array, change: Change | None = None) -> Answer:
        """Answers about rows ``x``, ``(n, ...)``; the change of the answer takes place where the pass does."""
        return Answer.join(await self._ask(x, partial(_answered, change)))

    async def _ask(self, x: Array, finish: Callable[[Array, Array], Any]) -> Sequence[Any]:
        asked, most = perf_counter(), self.most
        parts = [self._passes(_Part(x[at : at + most], asked, finish)) for at in range(0, len(x), most)]
        return [await parts[0]] if len(parts) == 1 else await asyncio.gather(*parts)

    def _pass(self, parts: Sequence[_Part]) -> Sequence[Any] | Awaitable[Sequence[Any]]:
        if self._engine.beside or self._costs[sum(len(part.x) for part in parts).bit_length()] > INLINE:
            return self._beside(parts)
        return self._counted(parts, self._forward(parts))

    async def _beside(self, parts: Sequence[_Part]) -> Sequence[Any]:
        forward = asyncio.get_running_loop().run_in_executor(self._executor, self._forward, parts)
        return self._counted(parts, await forward)

    def _counted(self, parts: Sequence[_Part], done: _Pass) -> Sequence[Any]:
        size = done.rows.bit_length()
        known = self._costs[size]
        self._costs[size] = done.cost if known == math.inf else known + _WEIGHT * (done.cost - known)
        if self._observe is not None:
            self._observe(done.rows, done.start - parts[0].asked, done.end - done.start)
        return done.results

    def _forward(self, parts: Sequence[_Part]) -> _Pass:
        start, begun = perf_counter(), thread_time()
        probs = self._engine.predict([part.x for part in parts])
        end, at = perf_counter(), 0
        results: list[Any] = []
        for x, _, finish in parts:
            try:
                results.append(finish(x, probs[at : at + len(x)]))
            except Exception as error:  # which is this part's alone
                results.append(error)
            at += len(x)
        return _Pass(at, results, start, end, thread_time() - begun)


def _answered(change: Change | None, x: Array, probs: Array) -> Answer:
    answer = Answer(probs.argmax(axis=1).astype(np.int64, copy=False), probs)
    return answer if change is None else change(x, answer)
