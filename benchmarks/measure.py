"""Times and ratios: every ratio is taken within a round, so that what slows a whole round down cancels out."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple


class Spread(NamedTuple):
    """Median, least and greatest of some rounds."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Summarises rounds."""
    return Spread(statistics.median(values), min(values), max(values))


def ratios(above: Sequence[float], below: Sequence[float]) -> Spread:
    """Summarises the ratios of figures of the same rounds."""
    return spread([a / b for a, b in zip(above, below, strict=True)])


def cpu_seconds(run: Callable[..., object], *arguments: object, times: int = 1) -> float:
    """Returns the CPU time, of all threads of this process, that calls take together."""
    start = time.process_time()
    for _ in range(times):
        run(*arguments)
    return time.process_time() - start
