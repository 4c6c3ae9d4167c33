"""A micro-batcher without a timer, between requests and an engine.

Whatever arrived in the same turn of the event loop, or while a pass runs, shares the next pass; a lone request
never waits. A request of more rows than a pass takes is divided, and others come in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from time import perf_counter
from typing import NamedTuple

import numpy as np

from defenses.microbatch import MicroBatch
from server.deployment.engine import Engine
from wire import Array

INLINE = 0.002  # seconds; a shorter pass blocks the event loop for less than a change of threads would cost

Observe = Callable[[int, float, float], None]


class _Part(NamedTuple):
    x: Array
    asked: float


class Batcher:
    """Puts the rows of concurrent requests into passes of an engine."""

    def __init__(self, engine: Engine, executor: Executor, observe: Observe | None = None) -> None:
        """Takes the engine.

        Args:
            engine: The engine.
            executor: Runs passes that take too long to be run in the event loop.
            observe: Called after each pass with its rows, the seconds for which the first of them had waited, and
                the seconds that it took.
        """
        self._engine, self._executor, self._observe = engine, executor, observe
        self._passes: MicroBatch[_Part, Array] = MicroBatch(
            self._pass, size=lambda part: len(part.x), most=engine.rows
        )

    async def __call__(self, x: Array) -> Array:
        """Answers about the rows ``x``, ``(n, ...)``: class probabilities, ``(n, k)``."""
        asked, most = perf_counter(), self._engine.rows
        if len(x) <= most:
            return await self._passes(_Part(x, asked))
        parts = [self._passes(_Part(x[at : at + most], asked)) for at in range(0, len(x), most)]
        return np.concatenate(await asyncio.gather(*parts))

    def _pass(self, parts: Sequence[_Part]) -> Sequence[Array] | Awaitable[Sequence[Array]]:
        rows = [part.x for part in parts]
        if self._engine.seconds < INLINE and not self._engine.beside:
            return self._answers(parts, *self._forward(rows))
        return self._beside(parts, rows)

    async def _beside(self, parts: Sequence[_Part], rows: Sequence[Array]) -> Sequence[Array]:
        forward = asyncio.get_running_loop().run_in_executor(self._executor, self._forward, rows)
        return self._answers(parts, *await forward)

    def _answers(self, parts: Sequence[_Part], start: float, probs: Array, end: float) -> Sequence[Array]:
        rows = len(probs)
        if self._observe is not None:
            self._observe(rows, start - parts[0].asked, end - start)
        answers, at = [], 0
        for part in parts:
            answers.append(probs[at : at + len(part.x)])
            at += len(part.x)
        return answers

    def _forward(self, rows: Sequence[Array]) -> tuple[float, Array, float]:
        start = perf_counter()
        return start, self._engine.predict(rows), perf_counter()
