"""The latest rows of all accounts, and which of them is nearest to a new one."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from defenses.monitoring.nearest import UNIT, Kept, Rows, pixel_squares
from wire import Array

_STEP = 256  # rows that are taken at a time, and that may be held beyond the window


@dataclass
class Recent:
    """The latest rows, all of pixels, with their owners.

    Attributes:
        kept: The rows.
        owners: Number of each row's owner, ``(n,)`` int32.
    """

    kept: Kept
    owners: Array = field(default_factory=lambda: np.empty(0, np.int32))

    @property
    def nbytes(self) -> int:
        """The memory that it takes."""
        return self.kept.nbytes + self.owners.nbytes

    def take(self, x: Rows, owners: Array, window: int) -> tuple[Array, Array]:
        """Takes rows, and finds the nearest of the ``window`` rows before each.

        Args:
            x: Rows of pixels, ``(m, d)``.
            owners: Number of each row's owner, ``(m,)`` int32.
            window: How many rows before a row count.

        Returns:
            Squared distances ``(m,)`` float64, inf where no row is before, and the owner of the nearest row,
            ``(m,)``; of several nearest rows it is the earliest.
        """
        found, start = [], 0
        while start < len(owners):  # what is held must not depend on how rows are split into calls
            end = start + min(_STEP, window + _STEP - self.kept.count)
            found.append(self._take(x.at(slice(start, end)), owners[start:end], window))
            start = end
            if self.kept.count == window + _STEP:
                self.kept.drop(_STEP)
                self.owners = self.owners[_STEP:].copy()
        squares, nearest = (np.concatenate(part) for part in zip(*found, strict=True))
        return squares, nearest

    def _take(self, x: Rows, owners: Array, window: int) -> tuple[Array, Array]:
        end = self.kept.count + np.arange(len(owners))
        first = np.maximum(end - window, 0)
        self.kept.append(x)
        self.owners = np.concatenate([self.owners, owners])
        squares = pixel_squares(x, self.kept.rows)
        places, most = np.arange(self.kept.count), np.iinfo(squares.dtype).max
        low, high = first[-1], end[0]  # all rows between these count for each of the new ones
        squares[:, :low][places[:low] < first[:, None]] = most
        squares[:, high:][places[high:] >= end[:, None]] = most
        at = squares.argmin(axis=1)
        least = np.take_along_axis(squares, at[:, None], axis=1)[:, 0]
        return np.where(first < end, least / UNIT, np.inf), self.owners[at]
