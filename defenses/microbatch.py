"""Work that is asked for at the same time is done together, without a timer.

Whatever is asked for in the same turn of the event loop, or while a run goes on, shares the next run; a lone call
never waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from time import perf_counter
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")
Observe = Callable[[float, int], None]
Results = Sequence[R | BaseException]
Batch = list[tuple[T, "asyncio.Future[R]"]]


class MicroBatch(Generic[T, R]):
    """Calls that share runs; one run goes on at a time."""

    def __init__(
        self,
        run: Callable[[Sequence[T]], Results[R] | Awaitable[Results[R]]],
        *,
        size: Callable[[T], int] = lambda _: 1,
        most: int | None = None,
        undo: Callable[[T, R], T | None] | None = None,
        observe: Observe | None = None,
    ) -> None:
        """Takes what does the work.

        Args:
            run: Is given what was asked for, in order, and returns as many results, at once or to be awaited; a
                result that is an exception is raised where it was asked for, and what ``run`` itself raises is
                raised everywhere.
            size: Tells the size of what is asked for.
            most: Greatest size of a run; what is larger has one to itself. None takes all that waits.
            undo: Where it is given, what is asked for is done even if who asked has gone, and then undone, by what
                ``undo`` returns of an item and its result, if anything. Otherwise it is not done.
            observe: Is told of each run the seconds that it took, and how many calls shared it.
        """
        self._run, self._size, self._most, self._undo, self._observe = run, size, most, undo, observe
        self._waiting: list[tuple[T, asyncio.Future[R]]] = []
        self._due = False  # whether a run goes on, or will begin at the end of this turn
        self._going: asyncio.Task[None] | None = None  # a run that is awaited

    async def __call__(self, item: T) -> R:
        """Returns the result for an item."""
        result = self._ask(item)
        try:
            return await result
        except asyncio.CancelledError:
            if result.done() and not result.cancelled() and result.exception() is None:
                self._make_up_for(item, result.result())
            raise

    def _ask(self, item: T) -> asyncio.Future[R]:
        loop = asyncio.get_running_loop()
        result: asyncio.Future[R] = loop.create_future()
        self._waiting.append((item, result))
        if not self._due:
            self._due = True
            loop.call_soon(self._begin)
        return result

    def _begin(self) -> None:
        batch = self._next()
        if not batch:
            self._due = False
            return
        begun = perf_counter()
        try:
            results = self._run([item for item, _ in batch])
        except Exception as error:
            results = [error] * len(batch)
        if isinstance(results, Awaitable):
            self._going = asyncio.get_running_loop().create_task(self._await(batch, results, begun))
        else:
            self._end(batch, results, begun)

    async def _await(self, batch: Batch[T, R], run: Awaitable[Results[R]], begun: float) -> None:
        try:
            results = await run
        except (
            Exception,
            asyncio.CancelledError,
        ) as error:  # the loop's end cancels runs, but not who refunds then
            results = [error] * len(batch)
        self._end(batch, results, begun)

    def _end(self, batch: Batch[T, R], results: Results[R], begun: float) -> None:
        seconds = perf_counter() - begun
        if len(results) != len(batch):
            results = [ValueError(f"{len(results)} results for {len(batch)} calls")] * len(batch)
        for (item, result), value in zip(batch, results, strict=True):
            if result.done():
                self._make_up_for(item, value)
            elif isinstance(value, BaseException):
                result.set_exception(value)
            else:
                result.set_result(value)
        self._due = bool(self._waiting)
        if self._due:  # who was answered goes on before the next run, and may ask again
            asyncio.get_running_loop().call_soon(self._begin)
        if self._observe is not None:
            self._observe(seconds, len(batch))

    def _make_up_for(self, item: T, value: R | BaseException) -> None:
        """Undoes what was done for somebody who has gone."""
        if self._undo is not None and not isinstance(value, BaseException):
            undoing = self._undo(item, value)
            if undoing is not None:
                self._ask(undoing)

    def _next(self) -> Batch[T, R]:
        waiting = self._waiting
        if self._undo is None:
            waiting = [(item, result) for item, result in waiting if not result.done()]  # the others have gone
        taken, total = 0, 0
        for item, _ in waiting:
            total += self._size(item)
            if taken and self._most is not None and total > self._most:
                break
            taken += 1
        self._waiting = waiting[taken:]
        return waiting[:taken]
