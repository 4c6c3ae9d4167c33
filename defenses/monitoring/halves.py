"""Sliding windows for a fold that cannot forget rows: two folds that start half a window apart."""

from __future__ import annotations

from collections.abc import Iterator


def halves(before: int, count: int, window: int | None) -> Iterator[tuple[slice, bool]]:
    """Splits rows at the end of each half window, where the older of two folds is dropped and a new one begins.

    Args:
        before: Number of earlier rows.
        count: Number of new rows.
        window: Rows in a window; None for no window.

    Yields:
        A part of the rows, never empty, and whether half a window ends with it.
    """
    half = before + count + 1 if window is None else window // 2
    start = 0
    while start < count:
        end = min(count, start + half - (before + start) % half)
        yield slice(start, end), (before + end) % half == 0
        start = end
