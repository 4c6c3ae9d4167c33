"""Windows of recent rows for a fold that cannot forget: two folds that start half a window apart."""

from __future__ import annotations

from collections.abc import Iterator


def halves(before: int, count: int, window: int | None) -> Iterator[tuple[slice, bool]]:
    """Splits rows where half a window ends; there the older of two folds is dropped and a new one begun.

    Args:
        before: How many rows came before.
        count: How many rows come now.
        window: Rows of a window; None if there is none.

    Yields:
        A part of the rows, never empty, and whether half a window ends with it.
    """
    half = before + count + 1 if window is None else window // 2
    start = 0
    while start < count:
        end = min(count, start + half - (before + start) % half)
        yield slice(start, end), (before + end) % half == 0
        start = end
