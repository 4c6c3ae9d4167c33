"""PRADA: flags an account whose query distances are not normally distributed.

Source: Juuti, Szyller, Marchal, Asokan, "PRADA: Protecting Against DNN Model Stealing Attacks", EuroS&P 2019,
section 5: algorithm 3, in its symbols, and the settings of section 5.3. Two differences: an alarm stands until an
operator clears it, where the algorithm's ends when W recovers; and a distance of exactly three deviations from the
mean is left out, as in the authors' code.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from defenses.detectors.calibration import Calibration, Streams, calibrate
from defenses.detectors.detector import Alarm
from defenses.monitoring.growing import Arrivals, GrowingSets, flat_rows, halves
from defenses.monitoring.sample import Moments, Sample
from wire import Array, BadInput, Labels


@dataclass
class Past:
    """The variables of algorithm 3.

    Attributes:
        rows: Number of rows so far.
        G: The growing sets G_c.
        D_G: Mean and standard deviation of each D_Gc: the distances at which rows joined G_c, 0 for the first.
        T: The thresholds T_c.
        D: The minimum distances d_min of all classes.
        waiting: Distances by class that are not in D yet, because there are fewer than ``class_distances``.
    """

    rows: int = 0
    G: GrowingSets = field(default_factory=GrowingSets)
    D_G: dict[int, Moments] = field(default_factory=dict)
    T: dict[int, float] = field(default_factory=dict)
    D: Sample = field(default_factory=Sample)
    waiting: dict[int, list[float]] = field(default_factory=dict)


@dataclass
class State:
    """The state of one account.

    Attributes:
        rows: Number of rows that the account sent.
        alarm: The first alarm.
        width: Number of features of a row; None before the first.
        pasts: The past that decides and, with a window, the one that began half a window later.
    """

    rows: int = 0
    alarm: Alarm | None = None
    width: int | None = None
    pasts: list[Past] = field(default_factory=lambda: [Past()])

    @property
    def nbytes(self) -> int:
        """Memory of the arrays, in bytes."""
        return sum(past.G.nbytes + past.D.values.nbytes for past in self.pasts)


@dataclass(frozen=True)
class Prada:
    """Tests after each row whether the minimum distances of an account's rows are normally distributed.

    The defaults are the paper's. The authors' code uses ``interval=10``, ``class_distances=10`` and
    ``counted="after"``; it tests after 1, 11, 21, ... rows, where this one tests after 10, 20, ... Fewer than
    three distances, or equal ones, are not tested.

    Attributes:
        delta: Threshold on W; a smaller W raises an alarm. :meth:`calibrated` chooses it.
        interval: Rows from one test to the next.
        class_distances: Number of distances from which a class's distances count.
        enough: Tests need more distances than this.
        counted: Whether distances are counted before or after removing outliers beyond three standard deviations.
        window: Number of recent rows that count (at least half of it, at most all), so that a long harmless past
            cannot hide an attack: the algorithm restarts every half window, and decides from the next half on.
            None if all rows count.
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
        for name, least in (("interval", 1), ("class_distances", 1), ("enough", 2)):
            if getattr(self, name) < least:
                raise BadInput(f"prada: {name} must be at least {least}, not {getattr(self, name)}")
        if self.counted not in ("before", "after"):
            raise BadInput(f"prada: counted must be 'before' or 'after', not {self.counted!r}")
        if self.window is not None and 2 * (self.window // 2) < self.enough + 2:  # a first row has no distance
            raise BadInput(f"prada: a window of {self.window} rows never holds more than {self.enough} distances")

    def begin(self) -> State:
        """Returns the state of an account that has sent nothing."""
        return State()

    def observe(self, state: State, rows: Array, labels: Labels) -> State:
        """Folds more rows into a state (:meth:`~.detector.Detector.observe`); a byte b stands for b / 255."""
        self._fold(state, rows, labels, 0.0 if state.alarm else self.delta)
        return state

    def lowest(self, rows: Array, labels: Labels) -> float:
        """Returns the smallest W of a stream's tests, infinity without tests; a larger delta raises an alarm."""
        return min(self._fold(State(), rows, labels, math.inf), default=math.inf)

    def calibrated(self, chosen: Streams, held_out: Streams, fpr: float) -> tuple[Prada, Calibration]:
        """Returns the detector with ``delta`` chosen on harmless streams (:class:`~.calibration.Calibrated`)."""
        on, others = ([self.lowest(*stream) for stream in streams] for streams in (chosen, held_out))
        found = calibrate(on, others, fpr, self.enough + 2)  # the first row of a class has no distance
        return replace(self, delta=found.delta), found

    def _fold(self, state: State, rows: Array, labels: Labels, floor: float) -> list[float]:
        """Folds rows into a state; returns each W below the floor, and lowers the floor to it."""
        x, found = flat_rows(rows, labels, state.width), []
        state.width = x.shape[1]
        for part, ends in halves(state.rows, len(x), self.window):
            for row, W in self._take(state.pasts[0], x[part], labels[part], floor):
                state.alarm = state.alarm or Alarm(state.rows + row, W)
                found.append(floor := W)
            for past in state.pasts[1:]:
                self._take(past, x[part], labels[part], floor=0)
            state.rows += part.stop - part.start
            if ends:
                state.pasts = [state.pasts[-1], Past()]
        return found

    def _take(self, past: Past, x: Array, labels: Labels, floor: float) -> list[tuple[int, float]]:
        """Runs algorithm 3 on rows; returns the numbers of the rows after which W is below the floor, with W."""
        found, before = [], past.rows
        for arrivals, classes in past.G.arrivals(x, labels):
            start, added = past.rows, [self._grow(past, arrivals, i, c) for i, c in enumerate(classes.tolist())]
            past.rows += len(added)
            tested = [row % self.interval == 0 for row in range(start + 1, past.rows + 1)]
            for i, W in past.D.add(added, tested, floor, self._is_enough):
                found.append((start + i + 1 - before, floor := W))
        return found

    def _grow(self, past: Past, arrivals: Arrivals, i: int, c: int) -> Sequence[float]:
        """Adds row i, of class c; returns the distances to add to D."""
        d_min = arrivals.distance(i)
        if d_min == math.inf:  # G_c is empty
            arrivals.keep(i)
            past.D_G[c], past.T[c], past.waiting[c] = Moments(), 0.0, []
            past.D_G[c].add(0.0)
            return ()
        if d_min > past.T[c]:
            arrivals.keep(i)
            past.D_G[c].add(d_min)
            past.T[c] = max(past.T[c], past.D_G[c].mean - past.D_G[c].std)
        if c not in past.waiting:
            return (d_min,)
        past.waiting[c].append(d_min)
        return () if len(past.waiting[c]) < self.class_distances else past.waiting.pop(c)

    def _is_enough(self, distances: int, kept: int) -> bool:
        return (distances if self.counted == "before" else kept) > self.enough
