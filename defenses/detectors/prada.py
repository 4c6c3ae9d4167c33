"""PRADA: flags an account whose query distances are not normally distributed.

Source: Juuti, Szyller, Marchal, Asokan, "PRADA: Protecting Against DNN Model Stealing Attacks", EuroS&P 2019,
section 5: algorithm 3, in its symbols, and the settings of section 5.3.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import numpy as np

from defenses.detectors.calibration import Calibration, Streams, calibrate
from defenses.detectors.detector import Alarm
from defenses.monitoring.growing import Arrivals, GrowingSets
from defenses.monitoring.sample import Moments, Sample
from wire import Array, BadInput, Labels


@dataclass
class Past:
    """What algorithm 3 keeps of an account's rows.

    Attributes:
        rows: How many rows these are.
        G: The growing sets G_c.
        D_G: The moments of each D_Gc, the distances at which rows joined G_c; 0 is that of its first row.
        T: The thresholds T_c.
        D: The minimum distances of all classes, which are tested.
        waiting: By class, distances that do not count in D yet, since the class has too few.
    """

    rows: int = 0
    G: GrowingSets = field(default_factory=GrowingSets)
    D_G: dict[int, Moments] = field(default_factory=dict)
    T: dict[int, float] = field(default_factory=dict)
    D: Sample = field(default_factory=Sample)
    waiting: dict[int, list[float]] = field(default_factory=dict)


@dataclass
class State:
    """What is remembered of one account.

    Attributes:
        rows: How many rows the account sent.
        alarm: The first alarm.
        width: Features of a row, None before the first.
        past: What is tested.
        next: With a window, what will be tested next: it began half a window later.
    """

    rows: int = 0
    alarm: Alarm | None = None
    width: int | None = None
    past: Past = field(default_factory=Past)
    next: Past | None = None

    @property
    def nbytes(self) -> int:
        """The memory that its arrays take."""
        pasts = [self.past] if self.next is None else [self.past, self.next]
        return sum(past.G.nbytes + past.D.values.nbytes for past in pasts)


@dataclass(frozen=True)
class Prada:
    """Tests after each row whether the minimum distances of an account's rows are normally distributed.

    The defaults are the paper's. Its authors' own code differs in three ways: ``interval=10``,
    ``class_distances=10``, ``counted="after"``. (It counts rows from 0 and tests after those that 10 divides; here
    it is after 10, 20, ... rows.)

    Fewer than three distances that pass the filter have no W, and the strict inequality of the filter leaves none
    of equal distances; then there is no test.

    Attributes:
        delta: An alarm is raised where W falls under it; :meth:`calibrated` chooses it.
        interval: Rows from one test to the next.
        class_distances: A class's distances count once there are so many.
        enough: Tests begin with more distances than this.
        counted: Whether these are counted before or after those beyond three standard deviations are left out.
        window: Only the most recent rows count, at most so many and at least half as many, so that a long
            harmless past does not hide an attack: after each half of a window the algorithm starts anew beside
            the one that goes on, and takes its place after the next half. None if all rows count.
    """

    uncalibrated: ClassVar[Mapping[str, Any]] = {"delta": 0.0}

    delta: float
    interval: int = 1
    class_distances: int = 1
    enough: int = 100
    counted: Literal["before", "after"] = "before"
    window: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.delta <= 1:
            raise BadInput(f"prada: delta must lie between 0 and 1, not {self.delta:g}")
        if min(self.interval, self.class_distances) < 1:
            raise BadInput(
                f"prada: interval and class_distances must be at least 1, not {self.interval} and "
                f"{self.class_distances}"
            )
        if self.enough < 2:
            raise BadInput(f"prada: enough must be at least 2, not {self.enough}: W needs three distances")
        if self.counted not in ("before", "after"):
            raise BadInput(f"prada: counted must be 'before' or 'after', not {self.counted!r}")
        if self.window is not None and self.window <= self.enough:
            raise BadInput(f"prada: a window of {self.window} rows never holds more than {self.enough} distances")

    def begin(self) -> State:
        """Returns the state of an account that has sent nothing."""
        return State()

    def observe(self, state: State, rows: Array, labels: Labels) -> State:
        """Folds more rows into a state (:meth:`~.detector.Detector.observe`).

        Args:
            state: The state so far; it is changed and returned.
            rows: Rows ``(n, ...)``, taken as float32; bytes stand for 255ths.
            labels: The victim's own labels, ``(n,)``.

        Raises:
            ValueError: The rows do not fit those before, or are not all finite. The state is unchanged.
        """
        self._fold(state, rows, labels, self.delta)
        return state

    def lowest(self, rows: Array, labels: Labels) -> float:
        """Returns the least W of all tests of a stream, infinite if there are none; a greater delta alarms."""
        return min(self._fold(State(), rows, labels, math.inf), default=math.inf)

    def calibrated(self, chosen: Streams, held_out: Streams, fpr: float) -> tuple[Prada, Calibration]:
        """Returns it with ``delta`` chosen on harmless streams (:class:`~.calibration.Calibrated`)."""
        found = calibrate([self.lowest(*s) for s in chosen], [self.lowest(*s) for s in held_out], fpr)
        return replace(self, delta=found.delta), found

    def statistic(self, state: State) -> float | None:
        """Returns W of an account's distances as they are now, None if there would be no test."""
        return state.past.D.w(self._accepts)

    def _fold(self, state: State, rows: Array, labels: Labels, floor: float) -> list[float]:
        """Takes rows; returns each W that is under the floor, which is W from then on."""
        x, found, start = _checked(state, rows, labels), [], 0
        while start < len(x):
            end = len(x)
            if self.window is not None:  # up to where another past begins
                half = self.window // 2
                end = min(end, start + half - state.rows % half)
            for row, W in self._take(state.past, x[start:end], labels[start:end], floor):
                state.alarm = state.alarm or Alarm(state.rows + row, W)
                found.append(W)
                floor = W
            if state.next is not None:
                self._take(state.next, x[start:end], labels[start:end], 0.0)
            state.rows += end - start
            start = end
            if self.window is not None and state.rows % half == 0:
                state.past, state.next = state.next or state.past, Past()
        return found

    def _take(self, past: Past, x: Array, labels: Labels, floor: float) -> list[tuple[int, float]]:
        """Algorithm 3; returns the number of each row after which W is under the floor, and W."""
        found: list[tuple[int, float]] = []
        start = 0
        for arrivals, classes in past.G.arrivals(x, labels):
            added, tested = [], []
            for i, c in enumerate(classes.tolist()):
                added.append(self._grow(past, arrivals, i, c))
                past.rows += 1
                tested.append(past.rows % self.interval == 0)
            for i, W in past.D.add(added, tested, found[-1][1] if found else floor, self._accepts):
                found.append((start + i + 1, W))
            start += len(classes)
        return found

    def _grow(self, past: Past, arrivals: Arrivals, i: int, c: int) -> Sequence[float]:
        """Takes row i, of class c; returns the distances that count in D from then on."""
        d_min = arrivals.distance(i)
        if d_min == math.inf:  # G_c is empty
            arrivals.keep(i)
            past.D_G[c] = Moments()
            past.D_G[c].add(0.0)
            past.T[c] = 0.0
            past.waiting[c] = []
            return ()
        if d_min > past.T[c]:
            arrivals.keep(i)
            D_Gc = past.D_G[c]
            D_Gc.add(d_min)
            past.T[c] = max(past.T[c], D_Gc.mean - D_Gc.std)
        if c not in past.waiting:
            return (d_min,)
        past.waiting[c].append(d_min)
        return past.waiting.pop(c) if len(past.waiting[c]) >= self.class_distances else ()

    def _accepts(self, distances: int, kept: int) -> bool:
        return (distances if self.counted == "before" else kept) > self.enough


def _checked(state: State, rows: Array, labels: Labels) -> Array:
    """Returns rows as ``(n, d)``, bytes or float32."""
    x = rows.reshape(len(rows), math.prod(rows.shape[1:]))
    if len(labels) != len(x):
        raise ValueError(f"{len(x)} rows with {len(labels)} labels")
    if state.width not in (None, x.shape[1]):
        raise ValueError(f"rows of {x.shape[1]} features after rows of {state.width}")
    if x.dtype != np.uint8:
        x = x.astype(np.float32, copy=False)
        if not np.isfinite(x).all():
            raise ValueError("distances need finite features")
    state.width = x.shape[1]
    return x
