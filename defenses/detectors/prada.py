"""PRADA: an account whose rows lie at distances that are not normally distributed extracts the model.

Source: Juuti, Szyller, Marchal, Asokan, "PRADA: Protecting Against DNN Model Stealing Attacks", EuroS&P 2019,
section 5: algorithm 3 and the settings of section 5.3.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, pairwise
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

from defenses.detectors.calibration import Calibration, Streams, calibrate
from defenses.detectors.neighbours import Grown, Kept, Rows, among, pixels
from defenses.detectors.shapiro_wilk import least, statistic
from wire import Array, BadInput, Labels

_SCHEMA = 1  # of a state's bytes
_STEP = 256  # rows that are taken at a time
_RECENT = np.dtype([("label", np.int32), ("distance", np.float64), ("joined", np.int8)])
_NO, _FLOATS, _PIXELS = range(3)  # whether a row joined its growing set, and of which kind it is
_SCALE = 202  # the root of a sum of squared differences of float32 numbers is an integer over 2^202


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
        pool = state.pool
        events, at = self._events(state, x, labels, tested=floor > -math.inf), 0
        while at < len(events):
            some = events[at : at + pool.step]
            stays = pool.stays(some, floor)
            if not stays and len(some) > 1:
                pool.step = len(some) // 2
                continue
            pool.change(some)
            if not stays and (w := self._w(pool, some[0].cut)) is not None and w < floor:
                yield some[0].row, (floor := w)
            at += len(some)
            pool.step = min(_STEP, pool.step + pool.step // 4 + 1)

    def _events(self, state: State, x: Rows, labels: Labels, *, tested: bool) -> list[_Event]:
        """Lets the growing sets take rows, one after the other, and tells what each changes in D."""
        old: Array = np.empty(0, _RECENT) if state.recent is None else state.recent.rows
        spare = self.window - len(old) if self.window else len(x)  # rows before the first one leaves
        left: list[tuple[int, float, int]] = old[: max(0, len(x) - spare)].tolist()
        groups = _groups(x, labels)
        best, near = state.nearest(x, labels, groups, left, spare)
        events: list[_Event] = []
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
            growing = state.classes[label]
            distance = math.sqrt(best[i]) if growing.sums.count else math.nan
            joined = kind if growing.joins(distance) else _NO
            if joined:
                np.minimum(best[i + 1 :], near[i, i + 1 :], out=best[i + 1 :])
            if not math.isnan(distance):
                added = growing.remember(distance, self.class_distances)
            new.append((label, distance, joined))
            for z in added:
                state.pool.sums.change(z, 1)
            for z in removed:
                state.pool.sums.change(z, -1)
            state.rows += 1
            cut = self._cut(state.pool) if tested and state.rows % self.interval == 0 else None
            events.append(_Event(state.rows, added, removed, cut))
        state.keep(groups, np.array([joined != _NO for _, _, joined in new]), left)
        if self.window:
            records = np.array(new, _RECENT)
            state.recent = state.recent or Grown(records)
            state.recent.append(records)
            state.recent.drop(len(left))
        return events

    def _cut(self, pool: Pool) -> _Cut | None:
        """Returns what the filter lets pass of D if that is to be tested."""
        if pool.sums.count <= self.enough:
            return None
        mean, std = pool.sums.moments()
        return _Cut(mean, 3 * std) if std else None

    def _w(self, pool: Pool, cut: _Cut | None) -> float | None:
        if cut is None:
            return None
        kept = pool.values[np.abs(pool.values - cut.mean) < cut.reach]
        if len(kept) < 3 or (self.counted == "after" and len(kept) <= self.enough):
            return None
        return statistic(kept)


class _Cut(NamedTuple):
    """The filter: distances whose difference from the mean is under ``reach``, three standard deviations."""

    mean: float
    reach: float


class _Event(NamedTuple):
    """What a row changes in D; ``cut`` is None where nothing is tested after it."""

    row: int
    added: Sequence[float]
    removed: Sequence[float]
    cut: _Cut | None


class Sums:
    """Number, sum and sum of squares of some distances, in integers: exact in any order, and undone exactly."""

    __slots__ = ("count", "squares", "total")

    def __init__(self, count: int = 0, total: int = 0, squares: int = 0) -> None:
        """Begins with those given; the sums are over 2^202 and its square."""
        self.count, self.total, self.squares = count, total, squares

    def change(self, z: float, sign: int) -> None:
        """Adds (1) or removes (-1) a distance."""
        number = int(math.ldexp(z, _SCALE))
        self.count += sign
        self.total += sign * number
        self.squares += sign * number * number

    def numbers(self) -> tuple[int, int, int]:
        """Returns what it is made of."""
        return self.count, self.total, self.squares

    def moments(self) -> tuple[float, float]:
        """Returns the mean and the standard deviation of the population."""
        variance = (self.count * self.squares - self.total * self.total) / (self.count * self.count)
        return math.ldexp(self.total / self.count, -_SCALE), math.ldexp(math.sqrt(variance), -_SCALE)


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


class Pool:
    """D, the distances that count.

    Attributes:
        values: The distances, sorted.
        sums: Of the distances.
        step: For how many rows at once :meth:`stays` is worth a try; it changes no result.
    """

    def __init__(self) -> None:
        """Begins empty."""
        self.step = 1
        self.values: Array = np.empty(0)
        self.sums = Sums()

    def change(self, events: Sequence[_Event]) -> None:
        """Brings the sorted distances up to date."""
        values = self.values
        if added := sorted(z for event in events for z in event.added):
            values = np.insert(values, values.searchsorted(added), added)
        self.values = _without(values, [z for event in events for z in event.removed])

    def stays(self, events: Sequence[_Event], floor: float) -> bool:
        """Tells whether W surely is at least the floor after each of some rows.

        The core are distances that pass the filter after each of them; those that come, go or lie where the
        filter's bounds move are doubtful.
        """
        cuts = [event.cut for event in events if event.cut]
        if not cuts:
            return True
        slack = 1e-12 * max(abs(cut.mean) + cut.reach for cut in cuts)  # the filter itself rounds
        lows, highs = [cut.mean - cut.reach for cut in cuts], [cut.mean + cut.reach for cut in cuts]
        bounds = [min(lows) - slack, max(lows) + slack, min(highs) - slack, max(highs) + slack]
        come = [z for event in events for z in event.added]
        gone = [z for event in events for z in event.removed]
        if gone:
            gone = list((Counter(gone) - Counter(come)).elements())
        values = _without(self.values, gone)
        a, b, c, d = values.searchsorted(bounds).tolist()
        some = [z for z in come + gone if bounds[0] < z < bounds[3]]
        return least(values[b:c], np.concatenate([some, values[a:b], values[c:d]])) >= floor


def _without(values: Array, gone: list[float]) -> Array:
    """Returns sorted values without some of them."""
    if not gone:
        return values
    ordered = np.sort(gone)
    return np.delete(values, values.searchsorted(ordered) + np.arange(len(gone)) - ordered.searchsorted(ordered))


def _runs(x: Array, octets: Array, same: Array, labels: Labels, most: int) -> Iterator[tuple[Rows, Labels]]:
    """Yields rows in parts of one kind and of at most so many."""
    bounds = [0, *(np.flatnonzero(same[1:] != same[:-1]) + 1).tolist(), len(x)]
    for start, end in pairwise(bounds):
        values = octets if start < end and same[start] else x
        for i in range(start, end, most):
            part = slice(i, min(i + most, end))
            yield Rows(values[part]), labels[part]


Groups = list[tuple[int, Rows, Array]]
"""Rows by class: label, rows, and their places among all, in order."""


def _groups(x: Rows, labels: Labels) -> Groups:
    order = labels.argsort(kind="stable")
    rows, ordered = x[order], labels[order]
    bounds = [0, *(np.flatnonzero(np.diff(ordered)) + 1).tolist(), len(x)]
    return [(int(ordered[i]), rows[i:j], order[i:j]) for i, j in pairwise(bounds)]


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
        return kept + self.pool.values.nbytes + (self.recent.nbytes if self.recent else 0)

    def nearest(
        self, x: Rows, labels: Labels, groups: Groups, left: Sequence[tuple[int, float, int]], spare: int
    ) -> tuple[Array, Array]:
        """Returns squared distances to what is kept, ``(m,)``, and to one another, ``(m, m)``, within classes.

        Args:
            x: The rows, of one kind.
            labels: Their classes, ``(m,)``.
            groups: Both, sorted by class.
            left: Class, distance and kind of rows that no longer count for those from ``spare`` on, one by one.
            spare: The number of rows for which all that is kept counts.
        """
        best = np.full(len(x), np.inf)
        for label, rows, at in groups:
            if label not in self.classes:
                self.classes[label] = GrowingSet()
            for kind, kept in self.classes[label].kept.items():
                places = [i for i, (of, _, joined) in enumerate(left, spare) if of == label and joined == kind]
                squares = kept.nearest(rows, np.searchsorted(places, at, side="right") if places else None)
                best[at] = np.minimum(best[at], squares)
        return best, among(x, labels, best)

    def keep(self, groups: Groups, joined: Array, left: Sequence[tuple[int, float, int]]) -> None:
        """Adds the rows that joined their growing sets, and removes those that left."""
        for label, rows, at in groups:
            some, kept = joined[at], self.classes[label].kept
            if some.any():
                kind = _PIXELS if rows.pixels else _FLOATS
                if kind not in kept:
                    kept[kind] = Kept(rows)
                kept[kind].append(rows[some])
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
        arrays["values"], arrays["head"] = self.pool.values, np.frombuffer(json.dumps(head).encode(), np.uint8)
        file = io.BytesIO()
        np.savez(file, allow_pickle=False, **arrays)
        return file.getvalue()

    @staticmethod
    def from_bytes(saved: bytes) -> State:
        """Reads what :meth:`to_bytes` wrote.

        Raises:
            ValueError: It is broken, or of another schema.
        """
        try:
            with np.load(io.BytesIO(saved), allow_pickle=False) as arrays:
                head = json.loads(arrays["head"].tobytes())
                if head["schema"] != _SCHEMA:
                    raise ValueError(f"schema {head['schema']}, expected {_SCHEMA}")
                return _state(head, arrays)
        except (zipfile.BadZipFile, KeyError, TypeError, ValueError, EOFError, OSError) as error:
            raise ValueError(f"prada: this is no state of an account: {error}") from None


def _state(head: dict[str, Any], arrays: Any) -> State:
    state = State(head["rows"], head["alarm"] and Alarm(*head["alarm"]), head["width"])
    state.pool.values, state.pool.sums = arrays["values"], Sums(*head["sums"])
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
