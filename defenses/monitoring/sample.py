"""Incremental statistics of a sample: its moments, and Shapiro and Wilk's W after each number."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from defenses.monitoring.shapiro_wilk import lower_bounds, statistic
from wire import Array

Accepts = Callable[[int, int], bool]
"""Returns whether a test may run, given the number of values, and the number that pass the outlier filter."""


@dataclass
class Moments:
    """The running mean and population standard deviation of numbers that are added one by one.

    Attributes:
        count: Number of values.
        origin: The first value, subtracted from all others to avoid cancellation if they lie close together.
        total: Sum of all values minus the origin.
        squares: Sum of the squares of all values minus the origin.
    """

    count: int = 0
    origin: float = 0.0
    total: float = 0.0
    squares: float = 0.0

    def add(self, z: float) -> None:
        """Adds a number."""
        if not self.count:
            self.origin = z
        self.count += 1
        self.total += z - self.origin
        self.squares += (z - self.origin) ** 2

    @property
    def mean(self) -> float:
        """The mean."""
        return self.origin + self.total / self.count

    @property
    def std(self) -> float:
        """The standard deviation."""
        return math.sqrt(max(0.0, self.squares * self.count - self.total**2)) / self.count


@dataclass
class Sample:
    """A growing sample of numbers; its W is computed without outliers beyond three standard deviations.

    Attributes:
        values: The numbers, sorted, ``(n,)`` float64.
        moments: The moments of the numbers.
    """

    values: Array = field(default_factory=lambda: np.empty(0))
    moments: Moments = field(default_factory=Moments)

    def add(
        self, steps: Sequence[Sequence[float]], tested: Sequence[bool], floor: float, accepts: Accepts
    ) -> list[tuple[int, float]]:
        """Adds numbers in steps; returns the steps after which W is below the floor, which W then replaces.

        W is not computed if a bound shows that it is not below the floor (:func:`~.shapiro_wilk.lower_bounds`).

        Args:
            steps: The numbers of each step.
            tested: Whether there is a test after each step.
            floor: The value below which W is reported.
            accepts: Whether there are enough numbers for a test.

        Returns:
            Pairs of the index of a step and W.
        """
        tests, numbers = [], []
        for step, (zs, is_tested) in enumerate(zip(steps, tested, strict=True)):
            for z in zs:
                self.moments.add(z)
                numbers.append(z)
            if is_tested and accepts(count := self.moments.count, count) and (std := self.moments.std):
                tests.append(_Test(step, len(numbers), self.moments.mean, 3 * std))
        more, found, inserted = np.array(numbers), [], 0
        while tests := tests[self._passed(tests, more[inserted:], inserted, floor) :]:
            test, *tests = tests
            self._insert(more[inserted : test.numbers])
            inserted = test.numbers
            w = self._w(test.mean, test.reach, accepts)
            if w is not None and w < floor:
                floor = w
                found.append((test.step, w))
        self._insert(more[inserted:])
        return found

    def w(self, accepts: Accepts) -> float | None:
        """Returns the current W; None if there are too few numbers, or all are equal."""
        if not accepts(self.moments.count, self.moments.count) or not (std := self.moments.std):
            return None
        return self._w(self.moments.mean, 3 * std, accepts)

    def _w(self, mean: float, reach: float, accepts: Accepts) -> float | None:
        kept = self.values[np.abs(self.values - mean) < reach]
        return statistic(kept) if len(kept) >= 3 and accepts(self.moments.count, len(kept)) else None

    def _insert(self, numbers: Array) -> None:
        if len(numbers):
            numbers = np.sort(numbers)
            self.values = np.insert(self.values, self.values.searchsorted(numbers), numbers)

    def _passed(self, tests: Sequence[_Test], more: Array, before: int, floor: float) -> int:
        """Returns the number of leading tests whose W cannot be below the floor.

        Args:
            tests: The pending tests.
            more: The pending numbers.
            before: Number of values added before these.
            floor: The floor.
        """
        if floor <= 0 or not tests:
            return len(tests)
        if len(tests) == 1:
            return 0  # computing W is faster than a bound
        mean, reach = np.array([(test.mean, test.reach) for test in tests]).T
        low, high, slack = mean - reach, mean + reach, 1e-12 * (np.abs(mean) + reach).max()
        outer, inner = (low.min() - slack, high.max() + slack), (low.max() + slack, high.min() - slack)
        a, b, c, d = self.values.searchsorted([outer[0], *inner, outer[1]]).tolist()
        doubtful = np.concatenate([self.values[a:b], self.values[c:d]])
        within = (more > outer[0]) & (more < outer[1])
        bounds = lower_bounds(self.values[b:c], doubtful, more[within])
        taken = np.append(0, np.cumsum(within))[[test.numbers - before for test in tests]]
        passed = bounds[taken] >= floor
        return len(tests) if passed.all() else int(passed.argmin())


class _Test(NamedTuple):
    step: int
    numbers: int  # number of values added by then
    mean: float
    reach: float  # values closer than this to the mean pass the filter
