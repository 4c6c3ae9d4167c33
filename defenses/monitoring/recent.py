"""The latest rows of all accounts, to find the nearest one to a new row, and its sender."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from defenses.monitoring.nearest import UNIT, Kept, Rows, pixel_squares, pixels
from defenses.monitoring.reference import TAIL, split
from wire import Array

_STEP = 256  # rows to add at a time; also the number of rows that may be held beyond the window
_BESIDE = 150  # bytes of an account's name and number


class Nearest(NamedTuple):
    """The nearest earlier row of each row, ``(n,)`` each.

    Attributes:
        ratios: The distance divided by the distance to the reference; inf if there is no earlier row.
        copies: Whether the distance is 0.
        owners: Number of the account that sent the nearest row.
        senders: Number of the account that sent the row itself.
    """

    ratios: Array
    copies: Array
    owners: Array
    senders: Array


@dataclass
class Recent:
    """The latest rows, as bytes, with their owners.

    Attributes:
        kept: The rows; None before the first.
        owners: Number of each row's owner, ``(n,)`` int32.
        numbers: The accounts' numbers, by name, in the order of their first rows.
    """

    kept: Kept | None = None
    owners: Array = field(default_factory=lambda: np.empty(0, np.int32))
    numbers: dict[str, int] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Memory of the rows and accounts, in bytes."""
        return (self.kept.nbytes if self.kept else 0) + self.owners.nbytes + _BESIDE * len(self.numbers)

    def take(self, features: Array, accounts: Sequence[str], window: int) -> Nearest:
        """Adds rows, and finds the nearest of the ``window`` rows before each, the earliest one among ties.

        Args:
            features: Features of the rows by :class:`~.reference.Reference`, ``(n, d)`` uint8.
            accounts: The sender of each row.
            window: Number of earlier rows to compare a row with.

        Raises:
            ValueError: The rows do not match earlier ones. The state is unchanged.
        """
        if features.dtype != np.uint8 or features.ndim != 2 or features.shape[1] <= TAIL:
            raise ValueError(
                f"expected rows of bytes, each followed by a distance, not {features.shape} {features.dtype}"
            )
        if len(accounts) != len(features):
            raise ValueError(f"{len(features)} rows of {len(accounts)} accounts")
        octets, reference = split(features)
        x = Rows.of(pixels(octets)[1])
        if self.kept is not None and x.values.shape[1] != self.kept.values.shape[1]:
            raise ValueError(f"rows of {x.values.shape[1]} features after rows of {self.kept.values.shape[1]}")
        senders = np.array([self.numbers.setdefault(name, len(self.numbers)) for name in accounts], np.int32)
        squares, owners = np.full(len(x.values), np.inf), senders.copy()
        self.kept = self.kept or Kept.like(x)
        start = 0
        while start < len(squares):  # the state must not depend on how rows are split into calls
            part = slice(start, start + min(_STEP, window + _STEP - self.kept.count))
            squares[part], owners[part] = self._take(self.kept, x.at(part), senders[part], window)
            start = part.stop
            if self.kept.count == window + _STEP:
                self.kept.drop(_STEP)
                self.owners = self.owners[_STEP:].copy()
        ratios = np.sqrt(np.divide(squares, reference, out=np.full(len(squares), np.inf), where=reference > 0))
        return Nearest(ratios, squares == 0, owners, senders)

    def _take(self, kept: Kept, x: Rows, senders: Array, window: int) -> tuple[Array, Array]:
        end = kept.count + np.arange(len(senders))
        first = np.maximum(end - window, 0)
        kept.append(x)
        self.owners = np.concatenate([self.owners, senders])
        squares = pixel_squares(x, kept.rows)
        places, most = np.arange(kept.count), np.iinfo(squares.dtype).max
        low, high = first[-1], end[0]  # rows in this range count for all new rows
        squares[:, :low][places[:low] < first[:, None]] = most
        squares[:, high:][places[high:] >= end[:, None]] = most
        at = squares.argmin(axis=1)
        least = np.take_along_axis(squares, at[:, None], axis=1)[:, 0]
        return np.where(first < end, least / UNIT, np.inf), self.owners[at]
