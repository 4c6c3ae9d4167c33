"""The grid to which rows are rounded before anything is keyed by them.

A key that depends on each bit of a row gives fresh noise for the same picture: copies that differ by 1e-45
average it out. So noise and marks depend on the nearest point of a grid. Where a card says what range features
have, the grid has 255 steps from the least to the greatest value, and a picture is its own nearest point. Other
numbers are rounded to 12 significant bits, and those below 2^-24 to zero.

Two rows beside a border of the grid are still keyed apart, however near they are, and so are two rows that
differ by a step in one feature. An attacker who knows this gets fresh noise for nearly the same row; the grid
only keeps him from getting it for exactly the same answer. Rows so near to one another are what PRADA and sybils
look for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from wire import Array, BadInput, Card

STEPS = 255
_LEAST = int(np.float32(2.0**-24).view(np.uint32))  # bit pattern of the least number that is not rounded to zero
_INFINITY, _NAN, _SIGNLESS = 0x7F80_0000, 0x7FC0_0000, 0x7FFF_FFFF
_DROPPED = 12  # bits of a float32's significand that are rounded away, of 24
_BITS = "bits"


@dataclass(frozen=True)
class Grid:
    """The points to which rows are rounded.

    Attributes:
        low: Least value of a feature.
        high: Greatest value; None, as ``low``, where features have no common range.
    """

    low: float | None = None
    high: float | None = None

    @staticmethod
    def of(card: Card) -> Grid:
        """Returns the grid of a model's rows."""
        low, high = card.low, card.high
        if card.missing or low is None or high is None or not (math.isfinite(high - low) and high > low):
            return ANY
        return Grid(low, high)

    @staticmethod
    def parse(name: str) -> Grid:
        """Reads the name of a grid, or raises :class:`~wire.BadInput`."""
        if name == _BITS:
            return ANY
        try:
            low, high = map(float, name.split())
        except ValueError:
            low = high = 0.0
        if not (math.isfinite(high - low) and high > low):
            raise BadInput(f"there is no grid {name!r}; expected two numbers, the lower first, or {_BITS}")
        return Grid(low, high)

    @property
    def name(self) -> str:
        """Its name, from which :meth:`parse` makes it again."""
        return _BITS if self.low is None else f"{self.low!r} {self.high!r}"

    def points(self, x: Array) -> Array:
        """Returns the nearest points of numeric rows ``(n, ...)``, as bytes ``(n, bytes)`` uint8."""
        if x.dtype.kind == "f":
            x = _rounded(x) if self.low is None or self.high is None else self._steps(x, self.low, self.high)
        return np.ascontiguousarray(x).reshape(len(x), -1).view(np.uint8)

    @staticmethod
    def _steps(x: Array, low: float, high: float) -> Array:
        scaled = (x if low == 0 else x - x.dtype.type(low)) * x.dtype.type(STEPS / (high - low))
        steps: Array = np.rint(scaled, out=scaled).clip(0, STEPS).astype(np.uint8)
        return steps


ANY = Grid()
"""The grid of numbers without a known range."""


def _rounded(x: Array) -> Array:
    """Rounds floats to 12 significant bits, half to even; -0.0 becomes 0.0, and any NaN numpy's."""
    with np.errstate(over="ignore"):
        bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    size = bits & _SIGNLESS
    nearest: Array = bits + (2 ** (_DROPPED - 1) - 1) + (bits >> _DROPPED & 1) & ~np.uint32(2**_DROPPED - 1)
    nearest[size < _LEAST] = 0
    nearest[size > _INFINITY] = _NAN
    return nearest
