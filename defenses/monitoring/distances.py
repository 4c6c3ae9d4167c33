"""D, the distances of PRADA's test: exact sums, and a bound that tells when W need not be computed.

Nothing of this changes what :mod:`~defenses.detectors.prada` finds; it spares it most of the work after a row.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from defenses.monitoring.shapiro_wilk import Least
from wire import Array

_SCALE = 2.0**202  # the root of a sum of squared differences of float32 numbers is an integer over it
_MOVE = 0.25  # times its reach over the root of their number: how far the filter may move before all is looked up
_LAZY = 256  # changes that wait before they are sorted in


class Cut(NamedTuple):
    """The filter: distances whose difference from the mean is under ``reach``, three standard deviations."""

    mean: float
    reach: float


class Event(NamedTuple):
    """What a row changes in D; ``cut`` is None where nothing is tested after it."""

    row: int
    added: Sequence[float]
    removed: Sequence[float]
    cut: Cut | None


class Sums:
    """Number, sum and sum of squares of some distances, in integers: exact in any order, and undone exactly."""

    __slots__ = ("count", "squares", "total")

    def __init__(self, count: int = 0, total: int = 0, squares: int = 0) -> None:
        """Begins with those given; the sums are over 2^202 and its square."""
        self.count, self.total, self.squares = count, total, squares

    def change(self, z: float, sign: int) -> None:
        """Adds (1) or removes (-1) a distance."""
        number = int(z * _SCALE)
        self.count += sign
        self.total += sign * number
        self.squares += sign * number * number

    def numbers(self) -> tuple[int, int, int]:
        """Returns what it is made of."""
        return self.count, self.total, self.squares

    def moments(self) -> tuple[float, float]:
        """Returns the mean and the standard deviation of the population."""
        variance = float(self.count * self.squares - self.total * self.total)
        return float(self.total) / self.count / _SCALE, math.sqrt(variance) / self.count / _SCALE


class Pool:
    """D, the distances that count.

    Attributes:
        sums: Of the distances.
    """

    def __init__(self, values: Array | None = None, sums: Sums | None = None) -> None:
        """Begins empty, or with sorted distances and their sums."""
        self.sums = sums or Sums()
        self._values: Array = np.empty(0) if values is None else values
        self._come: list[float] = []  # to _values, one day
        self._gone: list[float] = []
        self._sure: _Sure | None = None

    @property
    def values(self) -> Array:
        """The distances, sorted."""
        if self._come:
            come = np.sort(self._come)
            self._values = np.insert(self._values, self._values.searchsorted(come), come)
            self._come = []
        if self._gone:
            self._values = np.delete(self._values, _places(self._values, self._gone))
            self._gone = []
        return self._values

    @property
    def nbytes(self) -> int:
        """The memory that they take."""
        return self._values.nbytes + 32 * (len(self._come) + len(self._gone))

    def change(self, events: Iterable[Event]) -> None:
        """Takes what some rows change, but for the sums."""
        for event in events:
            self._come += event.added
            self._gone += event.removed
        if len(self._come) + len(self._gone) > _LAZY:
            _ = self.values

    def stays(self, events: Sequence[Event], floor: float, soon: Sequence[float] = ()) -> bool:
        """Tells whether W surely is at least the floor after each of the next rows.

        Args:
            events: What these change; all of them pass here, and :meth:`change` takes them next.
            floor: The least W.
            soon: Distances that will be removed before long.
        """
        if self._sure and self._sure.stays(events, floor):
            return True
        cuts = [event.cut for event in events if event.cut]
        gone = [*soon, *(z for event in events for z in event.removed)]
        self._sure = _Sure(self.values, cuts, gone) if cuts else None
        return not self._sure or self._sure.stays(events, floor)


class _Sure:
    """What is surely in the filtered D while the filter's bounds move but little, and so a bound of its W."""

    def __init__(self, values: Array, cuts: Sequence[Cut], gone: Sequence[float]) -> None:
        """Takes D, sorted.

        Args:
            values: D.
            cuts: Filters to come.
            gone: Values that will leave D.
        """
        slack = 1e-12 * max(abs(cut.mean) + cut.reach for cut in cuts)  # the filter itself rounds
        move = _MOVE * max(cut.reach for cut in cuts) / math.sqrt(max(1, len(values)))
        lows, highs = [cut.mean - cut.reach for cut in cuts], [cut.mean + cut.reach for cut in cuts]
        self._low = (min(lows) - move, max(lows) + move)
        self._high = (min(highs) - move, max(highs) + move)
        self._outer = (self._low[0] - slack, self._high[1] + slack)
        self._inner = (self._low[1] + slack, self._high[0] - slack)
        places = _places(values, gone)
        self._loose = values[places].tolist()
        values = np.delete(values, places) if self._loose else values
        a, b, c, d = values.searchsorted([self._outer[0], *self._inner, self._outer[1]]).tolist()
        self._least = Least(values[b:c], np.concatenate([values[a:b], values[c:d]]))
        for z in self._loose:
            self._doubt(z)

    def stays(self, events: Sequence[Event], floor: float) -> bool:
        """Takes what rows change; tells whether W surely is at least a floor after each. If not, it is spent."""
        for _, added, removed, cut in events:
            for z in added:
                self._doubt(z)
                self._loose.append(z)
            for z in removed:
                if z in self._loose:
                    self._loose.remove(z)
                elif self._inner[0] <= z <= self._inner[1]:
                    return False
            if cut is None:
                if not self._least.useful:
                    return False
            elif not (
                self._low[0] <= cut.mean - cut.reach <= self._low[1]
                and self._high[0] <= cut.mean + cut.reach <= self._high[1]
                and self._least.bound() >= floor
            ):
                return False
        return True

    def _doubt(self, z: float) -> None:
        if self._outer[0] < z < self._outer[1]:
            self._least.doubt(z)


def _places(values: Array, some: Sequence[float]) -> Array:
    """Returns where those of some values are that are among sorted ones, each as often as it is there."""
    ordered = np.sort(some)
    places = values.searchsorted(ordered) + np.arange(len(some)) - ordered.searchsorted(ordered)
    there = places < len(values)
    there[there] = values[places[there]] == ordered[there]
    return places[there]
