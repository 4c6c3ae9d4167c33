"""Counting what was noted of an account's latest rows: what HODA and the out-of-distribution filter remember."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from defenses.detectors.calibration import Calibration, Streams, calibrate
from wire import Array, BadInput, Labels

_SCHEMA = 1  # of a state's bytes
_STEP = 1 << 14  # rows whose windows are counted at a time

Score = Callable[[Array], Array]
"""From the counts of windows, ``(m, bins)``, to how suspicious each is, ``(m,)``."""


class Alarm(NamedTuple):
    """What was found.

    Attributes:
        row: The row after which it was, counted from 1 over all that the account sent.
        statistic: How suspicious the window was that ends there.
        delta: What that was greater than.
    """

    row: int
    statistic: float
    delta: float


@dataclass
class State:
    """What is remembered of one account; :meth:`Windows.observe` changes it.

    Attributes:
        rows: How many rows the account sent.
        alarm: The first alarm, None if there was none.
        recent: What was noted of the latest rows, ``(at most a window,)`` uint8.
    """

    rows: int = 0
    alarm: Alarm | None = None
    recent: Array = field(default_factory=lambda: np.empty(0, np.uint8))

    @property
    def nbytes(self) -> int:
        """The memory that its arrays take."""
        return self.recent.nbytes

    def to_bytes(self) -> bytes:
        """Returns all of it; equal states give equal bytes."""
        recent = base64.b64encode(self.recent.tobytes()).decode()
        return json.dumps({"schema": _SCHEMA, "rows": self.rows, "alarm": self.alarm, "recent": recent}).encode()


@dataclass(frozen=True)
class Windows:
    """The windows of an account's rows that are tested.

    Attributes:
        kind: Name of the detector.
        size: Rows in a window.
        interval: Rows from one test to the next; None makes windows that do not overlap.
        bins: What is noted of a row lies between 0 and under this.
    """

    kind: str
    size: int
    interval: int | None
    bins: int

    def __post_init__(self) -> None:
        if self.size < 1 or not 1 <= self.step <= self.size:
            raise BadInput(
                f"{self.kind}: rows must be at least 1, and interval lie between 1 and rows, not "
                f"{self.size} and {self.interval}"
            )

    @property
    def step(self) -> int:
        """Rows from one test to the next."""
        return self.size if self.interval is None else self.interval

    def begin(self, saved: bytes | None) -> State:
        """Returns the state of an account of no rows, or one that was saved (ValueError if that is broken)."""
        if saved is None:
            return State()
        try:
            head = json.loads(saved)
            if head["schema"] != _SCHEMA:
                raise ValueError(f"schema {head['schema']}, expected {_SCHEMA}")
            recent = np.frombuffer(base64.b64decode(head["recent"], validate=True), np.uint8)
            if len(recent) != min(head["rows"], self.size) or recent.max(initial=0) >= self.bins:
                raise ValueError(f"it has {len(recent)} of {head['rows']} rows, or notes that are none")
            return State(head["rows"], head["alarm"] and Alarm(*head["alarm"]), recent)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{self.kind}: this is no state of an account: {error}") from None

    def observe(self, state: State, notes: Array, labels: Labels, score: Score, delta: float) -> State:
        """Takes what was noted of more rows; the state is the same however they are split into calls.

        Args:
            state: What is remembered of the rows before; it is changed and returned.
            notes: A byte for each row, ``(n,)`` or ``(n, 1)``.
            labels: What the victim said of them, ``(n,)``.
            score: Tells how suspicious windows are.
            delta: What a suspicious one's score is greater than.

        Raises:
            ValueError: These are no notes of such rows. Nothing was changed.
        """
        notes = self._checked(notes, labels)
        for at in range(0, len(notes), _STEP):
            self._take(state, notes[at : at + _STEP], score, delta)
        return state

    def _take(self, state: State, notes: Array, score: Score, delta: float) -> None:
        values, rows = np.concatenate([state.recent, notes]), state.rows + len(notes)
        ends = self._ends(state.rows, rows)
        if state.alarm is None and len(ends):
            scores = score(self._counts(values, ends - (rows - len(values))))
            over = np.flatnonzero(scores > delta)
            if len(over):
                state.alarm = Alarm(int(ends[over[0]]), float(scores[over[0]]), delta)
        state.rows = rows
        state.recent = values[max(0, len(values) - self.size) :].copy()

    def greatest(self, notes: Array, labels: Labels, score: Score) -> float:
        """Returns the greatest score of all tests of a stream, minus infinity if there are none."""
        values = self._checked(notes, labels)
        return float(score(self._counts(values, self._ends(0, len(values)))).max(initial=-math.inf))

    def calibrate(self, chosen: Streams, held_out: Streams, fpr: float, score: Score) -> Calibration:
        """Chooses the least delta that accuses at most a share of the chosen streams, and tries it on others."""
        on, others = ([-self.greatest(*one, score) for one in of] for of in (chosen, held_out))
        found = calibrate(on, others, fpr)
        return found._replace(delta=-found.delta)

    def totals(self, streams: Streams) -> Array:
        """Returns how often each value was noted, ``(bins,)``."""
        counts = np.zeros(self.bins, np.int64)
        for notes, labels in streams:
            counts += np.bincount(self._checked(notes, labels), minlength=self.bins)
        return counts

    def _ends(self, after: int, rows: int) -> Array:
        """Returns after which rows there is a test, among those after some and up to ``rows``."""
        first = max(self.size, after + 1)
        return np.arange(-(-first // self.step) * self.step, rows + 1, self.step)

    def _counts(self, values: Array, ends: Array) -> Array:
        """Returns how often each value is among the ``size`` before each end, ``(m, bins)``."""
        passed = np.zeros((len(values) + 1, self.bins), np.int64)
        passed[np.arange(1, len(values) + 1), values] = 1
        np.cumsum(passed, axis=0, out=passed)
        counts: Array = passed[ends] - passed[ends - self.size]
        return counts

    def _checked(self, notes: Array, labels: Labels) -> Array:
        flat = notes.reshape(-1)
        if flat.dtype != np.uint8 or len(flat) != len(labels) or (len(flat) and flat.max() >= self.bins):
            raise ValueError(
                f"{self.kind}: notes of {len(labels)} rows must be as many bytes under {self.bins}, not "
                f"{notes.shape} {notes.dtype}"
            )
        return flat
