"""A transport that sends slowly and irregularly."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from wire import Answer, Array, Refused, Transport


class Paced:
    """Sends no faster than a pace, with pauses of irregular length.

    After ``n`` rows, the next request waits ``n / rows_per_second`` seconds, times a number drawn uniformly
    from ``1 - jitter`` to ``1 + jitter``.
    """

    def __init__(
        self,
        transport: Transport,
        rows_per_second: float,
        jitter: float,
        rng: np.random.Generator,
        *,
        sleep: Callable[[float], object],
        now: Callable[[], float],
    ) -> None:
        """Wraps a transport.

        Args:
            transport: The transport.
            rows_per_second: The pace.
            jitter: Greatest deviation of a pause from its length, as a share of it.
            rng: Draws the deviations.
            sleep: Waits for a number of seconds; a true result means that the wait was interrupted.
            now: Returns the time in seconds.
        """
        self._transport, self._pace, self._jitter, self._rng = transport, rows_per_second, jitter, rng
        self._sleep, self._now = sleep, now
        self._free = now()

    def __call__(self, x: Array) -> Answer:
        """Waits, then returns the answer to the rows ``x``, ``(n, *input_shape)``."""
        wait = self._free - self._now()
        if wait > 0 and self._sleep(wait):
            raise Refused("interrupted between two requests", status=429)
        answer = self._transport(x)
        pause = len(x) / self._pace * self._rng.uniform(1 - self._jitter, 1 + self._jitter)
        self._free = self._now() + pause
        return answer
