"""PRADA: an account whose rows lie at distances that are not normally distributed extracts the model.

Source: Juuti, Szyller, Marchal, Asokan, "PRADA: Protecting Against DNN Model Stealing Attacks", EuroS&P 2019,
section 5: algorithm 3 and the settings of section 5.3.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, pairwise
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

from defenses.detectors.calibration import Calibration, Streams, calibrate
from defenses.monitoring.distances import Cut, Event, Pool, Sums
from defenses.monitoring.nearest import Grown, Kept, Rows, among, pixels
from defenses.monitoring.shapiro_wilk import statistic
from defenses.monitoring.snapshots import read, written
from wire import Array, BadInput, Labels

_SCHEMA = 1  # of a state's bytes
_STEP = 256  # rows that are taken at a time
_RECENT = np.dtype([("label", np.int32), ("distance", np.float64), ("joined", np.int8)])
_NO, _FLOATS, _PIXELS = range(3)  # whether a row joined its growing set, and of which kind it is
_SOON = 32  # rows of which it is known before they leave that they will


class Alarm(NamedTuple):
    """What was found.

    Attributes:
        row: The row after which it was, counted from 1 over all that the account sent.
        statistic: W after that row.
        delta: What W fell under.
    """

    row: int
    statistic: float
    delta: float


@dataclass(frozen=True)
class Prada:
    """Tests after each row whether an account's least distances within classes are normally distributed.

    The defaults are the paper's. Its authors' own code differs in three ways: ``interval=10``,
    ``class_distances=10``, ``counted="after"``. (It counts rows from 0 and tests after those that 10 divides, here
    it is after 10, 20, ... rows.)

    Fewer than 3 distances that pass the filter have no W, and so have equal ones, which the filter's strict
    inequality takes all away: then nothing is found.

    Attributes:
        delta: An alarm is raised where W falls under it; from :meth:`calibrated`.
        interval: Rows from one test to the next.
        class_distances: A class's distances count once there are so many.
        enough: Tests begin with more distances than this.
        counted: Whether these are counted before or after distances beyond three standard deviations are
            filtered out.
        window: Most recent rows that count, so that a long harmless past hides nothing; None if all do. With
            the row that leaves go its distance (from D and from those that set its class's threshold) and, if it
            is there, the row itself (from its class's growing set). The threshold stays, for it never decreases,
            until the set is empty; then the class starts anew.
    """

    blank: ClassVar[Mapping[str, Any]] = {"delta": 0.0}

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

    def begin(self, saved: bytes | None = None) -> State:
        """Returns the state of an account of no rows, or one that was saved (see :meth:`State.from_bytes`)."""
        return State() if saved is None else State.from_bytes(saved)

    def observe(self, state: State, rows: Array, labels: Labels) -> State:
        """Takes more rows of an account; the state is the same however they are split into calls.

        Args:
            state: What is remembered of the rows before; it is changed and returned. For one state, ``window``
                and ``class_distances`` stay what they are.
            rows: Rows ``(n, ...)``, taken as float32; bytes stand for 255ths, a factor that W does not see.
            labels: What the victim itself said of them, ``(n,)``.

        Raises:
            ValueError: The rows do not fit those before, or not all is finite. Nothing was changed.
        """
        for x, of in self._parts(state, rows, labels):
            for row, w in self._under(state, x, of, -math.inf if state.alarm else self.delta):
                state.alarm = state.alarm or Alarm(row, w, self.delta)
        return state

    def lowest(self, rows: Array, labels: Labels) -> float:
        """Returns the least W of all tests of a stream, infinite if there are none; a greater delta alarms."""
        state, lowest = State(), math.inf
        for x, of in self._parts(state, rows, labels):
            lowest = min([lowest, *(w for _, w in self._under(state, x, of, lowest))])
        return lowest

    def calibrated(self, chosen: Streams, held_out: Streams, fpr: float) -> tuple[Prada, Calibration]:
        """Returns it with delta chosen on harmless streams (:class:`~.calibration.Calibrated`)."""
        found = calibrate([self.lowest(*s) for s in chosen], [self.lowest(*s) for s in held_out], fpr)
        return replace(self, delta=found.delta), found

    def statistic(self, state: State) -> float | None:
        """Returns W of an account's distances as they are now, None if there is none."""
        return self._w(state.pool, self._cut(state.pool))

    def _parts(self, state: State, rows: Array, labels: Labels) -> Iterator[tuple[Rows, Labels]]:
        """Checks rows, and returns them in parts that are of pixels or not."""
        x = rows.reshape(len(rows), math.prod(rows.shape[1:]))
        if len(labels) != len(x):
            raise ValueError(f"prada: {len(x)} rows with {len(labels)} labels")
        if state.width not in (None, x.shape[1]):
            raise ValueError(f"prada: rows of {x.shape[1]} features after rows of {state.width}")
        if x.dtype != np.uint8:
            x = x.astype(np.float32, copy=False)
        same, octets = pixels(x)
        if not (same.all() or np.isfinite(x).all()):
            raise ValueError("prada: distances need finite features")
        state.width = x.shape[1]
        return _runs(x, octets, same, labels, min(_STEP, self.window or _STEP))

    def _under(self, state: State, x: Rows, labels: Labels, floor: float) -> Iterator[tuple[int, float]]:
        """Takes rows; yields the number and W of those after which W is under the floor, which is W from then on.

        Where no choice among the few distances that some rows change could bring W under the floor, it is not
        computed after each of these rows.
        """
        pool, soon = state.pool, state.leaving(len(x) + _SOON)
        for event in self._events(state, x, labels, tested=floor > -math.inf):
            stays = pool.stays((event,), floor, soon)
            pool.change((event,))
            if not stays and (w := self._w(pool, event.cut)) is not None and w < floor:
                yield event.row, (floor := w)

    def _events(self, state: State, x: Rows, labels: Labels, *, tested: bool) -> list[Event]:
        """Lets the growing sets take rows, one after the other, and tells what each changes in D."""
        old: Array = np.empty(0, _RECENT) if state.recent is None else state.recent.rows
        spare = self.window - len(old) if self.window else len(x)  # rows before the first one leaves
        left: list[tuple[int, float, int]] = old[: max(0, len(x) - spare)].tolist()
        groups = _groups(x, labels)
        best = state.nearest(groups, left, spare)
        near = among(x, labels, best) if len(x) > 1 else np.full((1, 1), np.inf)
        nearer: list[bool] = (near < best).max(axis=1).tolist()  # to a later row than what is kept
        distances = np.sqrt(best).tolist()
        events: list[Event] = []
        new: list[tuple[int, float, int]] = []
        kind = _PIXELS if x.pixels else _FLOATS
        for i, label in enumerate(labels.tolist()):
            added: Sequence[float] = ()
            removed: Sequence[float] = ()
            if i >= spare:
                gone, distance, joined = left[i - spare]
                if joined:
                    state.classes[gone].leave(distance)
                if not math.isnan(distance):
                    since = chain(old[i - spare + 1 :], new)
                    others = (float(z) for of, z, _ in since if of == gone and not math.isnan(z))
                    removed = state.classes[gone].forget(distance, self.class_distances, others)
                    for z in removed:
                        state.pool.sums.change(z, -1)
            growing = state.classes[label]
            if growing.sums.count:
                distance = distances[i]
                added = growing.remember(distance, self.class_distances)
                for z in added:
                    state.pool.sums.change(z, 1)
            else:
                distance = math.nan
            joined = kind if growing.joins(distance) else _NO
            if joined and nearer[i]:
                np.minimum(best[i + 1 :], near[i, i + 1 :], out=best[i + 1 :])
                distances[i + 1 :] = np.sqrt(best[i + 1 :]).tolist()
            new.append((label, distance, joined))
            state.rows += 1
            cut = self._cut(state.pool) if tested and state.rows % self.interval == 0 else None
            events.append(Event(state.rows, added, removed, cut))
        state.keep(groups, [joined != _NO for _, _, joined in new], left)
        if self.window:
            records = np.array(new, _RECENT)
            state.recent = state.recent or Grown(records)
            state.recent.append(records)
            state.recent.drop(len(left))
        return events

    def _cut(self, pool: Pool) -> Cut | None:
        """Returns what the filter lets pass of D if that is to be tested."""
        if pool.sums.count <= self.enough:
            return None
        mean, std = pool.sums.moments()
        return Cut(mean, 3 * std) if std else None

    def _w(self, pool: Pool, cut: Cut | None) -> float | None:
        if cut is None:
            return None
        kept = pool.values[np.abs(pool.values - cut.mean) < cut.reach]
        if len(kept) < 3 or (self.counted == "after" and len(kept) <= self.enough):
            return None
        return statistic(kept)


class GrowingSet:
    """One class's growing set G_c, with its threshold and distances.

    Attributes:
        kept: The rows, by kind.
        sums: Of the distances at which they joined, D_Gc; 0 is that of the first.
        threshold: T_c.
        known: How many distances the class has.
        waiting: These, as long as they are too few to count.
    """

    def __init__(self) -> None:
        """Begins empty."""
        self.kept: dict[int, Kept] = {}
        self.sums = Sums()
        self.threshold = 0.0
        self.known = 0
        self.waiting: list[float] = []

    def joins(self, distance: float) -> bool:
        """Tells whether a row at a distance joins the set, NaN if that is empty; and counts it if so."""
        if math.isnan(distance):
            self.threshold = 0.0
            self.sums.change(0.0, 1)
            return True
        if distance <= self.threshold:
            return False
        self.sums.change(distance, 1)
        mean, std = self.sums.moments()
        self.threshold = max(self.threshold, mean - std)
        return True

    def leave(self, distance: float) -> None:
        """Takes what a row that left the set had added."""
        self.sums.change(0.0 if math.isnan(distance) else distance, -1)

    def remember(self, distance: float, enough: int) -> Sequence[float]:
        """Adds a distance to the class's, and returns those that count in D from now on."""
        self.known += 1
        if self.known > enough:
            return (distance,)
        self.waiting.append(distance)
        if self.known < enough:
            return ()
        waiting, self.waiting = self.waiting, []
        return waiting

    def forget(self, distance: float, enough: int, others: Iterable[float]) -> Sequence[float]:
        """Removes the class's oldest distance, and returns those that no longer count in D.

        Args:
            distance: The oldest.
            enough: How many count.
            others: The rest of them, which wait if they are too few now.
        """
        self.known -= 1
        if self.known >= enough:
            return (distance,)
        if self.known < enough - 1:
            del self.waiting[0]
            return ()
        self.waiting = list(others)
        return (distance, *self.waiting)


def _runs(x: Array, octets: Array, same: Array, labels: Labels, most: int) -> Iterator[tuple[Rows, Labels]]:
    """Yields rows in parts of one kind and of at most so many."""
    bounds = [0, *(np.flatnonzero(same[1:] != same[:-1]) + 1).tolist(), len(x)]
    for start, end in pairwise(bounds):
        values = octets if start < end and same[start] else x
        for i in range(start, end, most):
            part = slice(i, min(i + most, end))
            yield Rows(values[part]), labels[part]


class Groups(NamedTuple):
    """Rows by class.

    Attributes:
        order: Places of the rows among those that came, sorted by class, ``(m,)``.
        parts: Of each class the label, where its rows are among these, and the rows.
    """

    order: Array
    parts: list[tuple[int, slice, Rows]]


def _groups(x: Rows, labels: Labels) -> Groups:
    order = labels.argsort(kind="stable")
    ordered = labels[order].tolist()
    bounds = [0, *(i for i in range(1, len(x)) if ordered[i] != ordered[i - 1]), len(x)]
    if len(bounds) == 2:
        return Groups(order, [(ordered[0], slice(0, len(x)), x)])
    rows = x[order]
    parts = [slice(i, j) for i, j in pairwise(bounds)]
    return Groups(order, [(ordered[part.start], part, rows[part]) for part in parts])


@dataclass(eq=False)
class State:
    """What is remembered of one account; :meth:`Prada.observe` changes it.

    Attributes:
        rows: How many rows the account sent.
        alarm: The first alarm, None if there was none.
        width: Features of a row, None before the first.
        classes: Growing sets, by class.
        pool: The distances of all classes.
        recent: Class, distance and kind of the rows in the window; None where all rows count.
    """

    rows: int = 0
    alarm: Alarm | None = None
    width: int | None = None
    classes: dict[int, GrowingSet] = field(default_factory=dict)
    pool: Pool = field(default_factory=Pool)
    recent: Grown | None = None

    @property
    def nbytes(self) -> int:
        """The memory that its arrays take."""
        kept = sum(kept.nbytes for growing in self.classes.values() for kept in growing.kept.values())
        return kept + self.pool.nbytes + (self.recent.nbytes if self.recent else 0)

    def leaving(self, count: int) -> list[float]:
        """Returns the distances of the first rows in the window."""
        return [] if self.recent is None else self.recent.rows["distance"][:count].tolist()

    def nearest(self, groups: Groups, left: Sequence[tuple[int, float, int]], spare: int) -> Array:
        """Returns squared distances of rows, in the order in which they came, to what is kept, ``(m,)``.

        Args:
            groups: The rows, of one kind.
            left: Class, distance and kind of rows that no longer count for those from ``spare`` on, one by one.
            spare: The number of rows for which all that is kept counts.
        """
        best = np.full(len(groups.order), np.inf)
        for label, part, rows in groups.parts:
            if label not in self.classes:
                self.classes[label] = GrowingSet()
            for kind, kept in self.classes[label].kept.items():
                places = [i for i, (of, _, joined) in enumerate(left, spare) if of == label and joined == kind]
                gone = np.searchsorted(places, groups.order[part], side="right") if places else None
                np.minimum(best[part], kept.nearest(rows, gone), out=best[part])
        nearest = np.empty_like(best)
        nearest[groups.order] = best
        return nearest

    def keep(self, groups: Groups, joined: Sequence[bool], left: Sequence[tuple[int, float, int]]) -> None:
        """Adds the rows that joined their growing sets, and removes those that left."""
        ordered = [joined[i] for i in groups.order.tolist()]
        for label, part, rows in groups.parts:
            some = ordered[part]
            if any(some):
                kind, kept = _PIXELS if rows.pixels else _FLOATS, self.classes[label].kept
                if kind not in kept:
                    kept[kind] = Kept(rows)
                kept[kind].append(rows if all(some) else rows[np.array(some)])
        for (label, kind), count in Counter((label, kind) for label, _, kind in left if kind != _NO).items():
            kept = self.classes[label].kept
            kept[kind].drop(count)
            if not len(kept[kind]):
                del kept[kind]

    def to_bytes(self) -> bytes:
        """Returns all of it; equal states give equal bytes."""
        growing = sorted(self.classes.items())
        parts = [{kind: kept.values for kind, kept in sorted(one.kept.items()) if len(kept)} for _, one in growing]
        head = {
            "schema": _SCHEMA,
            "rows": self.rows,
            "alarm": self.alarm,
            "width": self.width,
            "sums": self.pool.sums.numbers(),
            "classes": [
                [label, one.sums.numbers(), one.threshold, one.known, one.waiting] for label, one in growing
            ],
        }
        arrays = {f"{number}/{kind}": rows for number, part in enumerate(parts) for kind, rows in part.items()}
        if self.recent is not None:
            arrays["recent"] = self.recent.rows
        return written(head, {**arrays, "values": self.pool.values})

    @staticmethod
    def from_bytes(saved: bytes) -> State:
        """Reads what :meth:`to_bytes` wrote.

        Raises:
            ValueError: It is broken, or of another schema.
        """
        with read(saved, _SCHEMA, "prada: this is no state of an account") as (head, arrays):
            return _state(head, arrays)


def _state(head: dict[str, Any], arrays: Any) -> State:
    state = State(head["rows"], head["alarm"] and Alarm(*head["alarm"]), head["width"])
    state.pool = Pool(arrays["values"], Sums(*head["sums"]))
    for number, (label, sums, threshold, known, waiting) in enumerate(head["classes"]):
        growing = state.classes[label] = GrowingSet()
        growing.sums, growing.threshold, growing.known, growing.waiting = Sums(*sums), threshold, known, waiting
        for kind in (_FLOATS, _PIXELS):
            if (name := f"{number}/{kind}") in arrays:
                rows = Rows(arrays[name])
                growing.kept[kind] = Kept(rows)
                growing.kept[kind].append(rows)
    if "recent" in arrays:
        state.recent = Grown(arrays["recent"])
        state.recent.append(arrays["recent"])
    return state
