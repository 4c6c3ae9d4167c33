"""A micro-batcher without a timer.

Whatever arrived in the same turn of the event loop, or while a pass runs, shares the next pass; a lone request
never waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor

import numpy as np

from wire import Array


class Batcher:
    """Puts the rows of concurrent requests into one pass of a model."""

    def __init__(self, predict: Callable[[Array], Array], executor: Executor) -> None:
        """Takes what answers about rows, and where to run it."""
        self._predict = predict
        self._executor = executor
        self._waiting: list[tuple[Array, asyncio.Future[Array]]] = []
        self._task: asyncio.Task[None] | None = None

    async def __call__(self, x: Array) -> Array:
        """Answers about the rows ``x``, ``(n, ...)``: class probabilities, ``(n, k)``."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Array] = loop.create_future()
        self._waiting.append((x, answer))
        if self._task is None:
            self._task = loop.create_task(self._run())
        return await answer

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                rows = batch[0][0] if len(batch) == 1 else np.concatenate([x for x, _ in batch])
                probs = await loop.run_in_executor(self._executor, self._predict, rows)
            except Exception as error:
                for _, answer in batch:
                    if not answer.done():
                        answer.set_exception(error)
                continue
            start = 0
            for x, answer in batch:
                if not answer.done():  # its client may have gone
                    answer.set_result(probs[start : start + len(x)])
                start += len(x)
        self._task = None
