"""Tests on windows of an account's latest rows, with a small number per row, for HODA and the OOD detector."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from defenses.detectors.calibration import Calibration, Streams, calibrate
from defenses.detectors.detector import Alarm
from wire import Array, BadInput, Labels

_STEP = 1 << 14  # rows whose windows are counted at a time

Score = Callable[[Array], Array]
"""Maps the histograms of windows, ``(m, bins)``, to how suspicious each window is, ``(m,)``."""


@dataclass
class State:
    """The state of one account.

    Attributes:
        rows: Number of rows that the account sent.
        alarm: The first alarm.
        recent: The numbers of the latest rows, at most a window of them, ``(n,)`` uint8.
    """

    rows: int = 0
    alarm: Alarm | None = None
    recent: Array = field(default_factory=lambda: np.empty(0, np.uint8))

    @property
    def nbytes(self) -> int:
        """Memory of the arrays, in bytes."""
        return self.recent.nbytes


@dataclass(frozen=True)
class Windows:
    """Tests windows of ``size`` rows, each after a multiple of ``interval`` rows.

    Attributes:
        size: Rows in a window.
        interval: Rows from one test to the next; None for windows that do not overlap.
        bins: Number of bins; a row's number is at least 0 and less than this.
    """

    size: int
    interval: int | None
    bins: int

    def __post_init__(self) -> None:
        if self.size < 1 or not 1 <= self.step <= self.size:
            raise BadInput(
                f"rows must be at least 1, and interval must lie between 1 and rows, not {self.size} and "
                f"{self.interval}"
            )

    @property
    def step(self) -> int:
        """Rows from one test to the next."""
        return self.size if self.interval is None else self.interval

    def observe(self, state: State, numbers: Array, labels: Labels, score: Score, delta: float) -> State:
        """Folds more rows into a state; the result does not depend on how rows are split into calls.

        Args:
            state: The state so far; it is changed and returned.
            numbers: A number for each row, ``(n,)`` or ``(n, 1)`` uint8.
            labels: The model's labels, ``(n,)``.
            score: Scores windows.
            delta: A window with a higher score raises an alarm.

        Raises:
            ValueError: The numbers are invalid. The state is unchanged.
        """
        numbers = self._checked(numbers, labels)
        for at in range(0, len(numbers), _STEP):
            self._take(state, numbers[at : at + _STEP], score, delta)
        return state

    def _take(self, state: State, numbers: Array, score: Score, delta: float) -> None:
        values, rows = np.concatenate([state.recent, numbers]), state.rows + len(numbers)
        ends = self._ends(state.rows, rows)
        if state.alarm is None and len(ends):
            scores = score(self._histograms(values, ends - (rows - len(values))))
            over = np.flatnonzero(scores > delta)
            if len(over):
                state.alarm = Alarm(int(ends[over[0]]), float(scores[over[0]]))
        state.rows = rows
        state.recent = values[max(0, len(values) - self.size) :].copy()

    def greatest(self, numbers: Array, labels: Labels, score: Score) -> float:
        """Returns the highest score of a stream's windows, minus infinity if there are none."""
        values = self._checked(numbers, labels)
        return float(score(self._histograms(values, self._ends(0, len(values)))).max(initial=-math.inf))

    def calibrate(self, chosen: Streams, held_out: Streams, fpr: float, score: Score) -> Calibration:
        """Chooses the smallest delta that accuses at most a share ``fpr`` of streams, and tests it on others."""
        on, others = ([-self.greatest(*stream, score) for stream in of] for of in (chosen, held_out))
        found = calibrate(on, others, fpr, self.size)
        return found._replace(delta=-found.delta)

    def totals(self, streams: Streams) -> Array:
        """Returns the histogram of all rows of all streams, ``(bins,)``."""
        counts = np.zeros(self.bins, np.int64)
        for numbers, labels in streams:
            counts += np.bincount(self._checked(numbers, labels), minlength=self.bins)
        return counts

    def _ends(self, after: int, rows: int) -> Array:
        """Returns the row counts, above ``after`` and up to ``rows``, at which there is a test."""
        first = max(self.size, after + 1)
        return np.arange(-(-first // self.step) * self.step, rows + 1, self.step)

    def _histograms(self, values: Array, ends: Array) -> Array:
        """Returns how often each number occurs among the ``size`` values before each end, ``(m, bins)``."""
        passed = np.zeros((len(values) + 1, self.bins), np.int64)
        passed[np.arange(1, len(values) + 1), values] = 1
        np.cumsum(passed, axis=0, out=passed)
        histograms: Array = passed[ends] - passed[ends - self.size]
        return histograms

    def _checked(self, numbers: Array, labels: Labels) -> Array:
        flat = numbers.reshape(-1)
        if flat.dtype != np.uint8 or len(flat) != len(labels) or (len(flat) and flat.max() >= self.bins):
            raise ValueError(
                f"expected {len(labels)} bytes under {self.bins}, one for each row; got {numbers.shape} of "
                f"{numbers.dtype}"
            )
        return flat
