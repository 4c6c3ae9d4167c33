"""Batches concurrent calls, without a timer.

Calls that arrive in the same turn of the event loop, or during a run, share the next run. A call that finds no
run in progress never waits.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from time import perf_counter
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")
Observe = Callable[[float, int], None]
Results = Sequence[R | BaseException]
Batch = list[tuple[T, "asyncio.Future[R]"]]


class MicroBatch(Generic[T, R]):
    """Combines concurrent calls into runs.

    One run is in progress at a time, or up to ``width`` if the later ones are full, or as large as those before.
    """

    def __init__(
        self,
        run: Callable[[Sequence[T]], Results[R] | Awaitable[Results[R]]],
        *,
        size: Callable[[T], int] = lambda _: 1,
        most: int | None = None,
        width: int = 1,
        even: bool = False,
        undo: Callable[[T, R], T | None] | None = None,
        observe: Observe | None = None,
    ) -> None:
        """Makes a batch for a function.

        Args:
            run: Maps items to the same number of results, directly or as an awaitable. A result that is an
                exception is raised in its own call; an exception of ``run`` itself is raised in all calls.
            size: Returns the size of an item.
            most: Maximum total size of a run; a larger item gets a run of its own. None for no maximum.
            width: Maximum number of runs in progress. While there is one, the next begins only if the waiting
                calls fill it, up to ``most``.
            even: Whether it also begins if it is no smaller than the smallest run in progress.
            undo: If given, an item whose caller was cancelled still runs, and is then undone by the item that
                ``undo`` returns for it and its result, if any. Without it, such an item is dropped.
            observe: Called after each run with its duration in seconds and the number of calls.
        """
        self._run, self._size, self._most = run, size, most
        self._width, self._even = width, even
        self._undo, self._observe = undo, observe
        self._waiting: Batch[T, R] = []
        self._due = False  # whether a run is to begin at the end of this turn
        self._runs: list[int] = []  # the sizes of those in progress
        self._tasks: set[asyncio.Task[None]] = set()  # those that are asynchronous

    async def __call__(self, item: T) -> R:
        """Returns the result for an item."""
        result = self._ask(item)
        try:
            return await result
        except asyncio.CancelledError:
            self._too_late(item, result)
            raise

    async def all(self, items: Sequence[T]) -> list[R]:
        """Returns the results for several items, as so many calls would, without a task for each."""
        results = [self._ask(item) for item in items]
        try:
            return await asyncio.gather(*results)
        except asyncio.CancelledError:
            for item, result in zip(items, results, strict=True):
                self._too_late(item, result)
            raise

    def _ask(self, item: T) -> asyncio.Future[R]:
        result: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, result))
        self._schedule()
        return result

    def _schedule(self) -> None:
        """Lets a run begin at the end of this turn, when callers that were answered have gone on."""
        if self._waiting and not self._due and len(self._runs) < self._width:
            self._due = True
            asyncio.get_running_loop().call_soon(self._begin)

    def _begin(self) -> None:
        self._due = False
        batch = self._next()
        if not batch:
            return
        begun = perf_counter()
        total = sum(self._size(item) for item, _ in batch)
        self._runs.append(total)
        try:
            results = self._run([item for item, _ in batch])
        except Exception as error:
            results = [error] * len(batch)
        if isinstance(results, Awaitable):
            task = asyncio.get_running_loop().create_task(self._await(batch, results, begun, total))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            self._schedule()
        else:
            self._end(batch, results, begun, total)

    async def _await(self, batch: Batch[T, R], run: Awaitable[Results[R]], begun: float, total: int) -> None:
        try:
            results = await run
        except (
            Exception,
            asyncio.CancelledError,
        ) as error:  # at its end, the loop cancels runs but not the callers, which must refund
            results = [error] * len(batch)
        self._end(batch, results, begun, total)

    def _end(self, batch: Batch[T, R], results: Results[R], begun: float, total: int) -> None:
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
        self._runs.remove(total)
        self._schedule()
        if self._observe is not None:
            self._observe(seconds, len(batch))

    def _too_late(self, item: T, result: asyncio.Future[R]) -> None:
        """Undoes an item that was run just before its caller was cancelled."""
        if result.done() and not result.cancelled() and result.exception() is None:
            self._make_up_for(item, result.result())

    def _make_up_for(self, item: T, value: R | BaseException) -> None:
        """Undoes an item whose caller was cancelled."""
        if self._undo is not None and not isinstance(value, BaseException):
            undoing = self._undo(item, value)
            if undoing is not None:
                self._ask(undoing)

    def _next(self) -> Batch[T, R]:
        """Takes the calls of the next run; none if it must wait for more, and for the runs in progress."""
        if self._undo is None:  # drops cancelled calls
            self._waiting = [(item, result) for item, result in self._waiting if not result.done()]
        most = math.inf if self._most is None else self._most
        taken, total = 0, 0
        for item, _ in self._waiting:
            total += self._size(item)
            if taken and total > most:
                break
            taken += 1
        if self._runs and total < min(most, min(self._runs) if self._even else most):
            return []
        batch, self._waiting = self._waiting[:taken], self._waiting[taken:]
        return batch
