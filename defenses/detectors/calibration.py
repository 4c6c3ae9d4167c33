"""Choosing a detector's threshold on harmless streams, and how often it then accuses others."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from typing import Any, ClassVar, NamedTuple, Protocol, Self, runtime_checkable

import numpy as np

from wire import Array, BadInput, Labels
from zoo.exact_interval import exact_interval

Streams = Iterable[tuple[Array, Labels]]
"""For each account what a detector observes of its rows, ``(n, ...)``, and the victim's labels, ``(n,)``."""


class Calibration(NamedTuple):
    """A threshold, and how often it accused harmless streams that it was not chosen on.

    Attributes:
        delta: The threshold.
        accused: Held-out streams on which it raises an alarm.
        streams: Held-out streams.
        low: Lower end of the interval of the false-positive rate (Clopper, Pearson, "The use of confidence or
            fiducial limits illustrated in the case of the binomial", Biometrika 1934).
        high: Its upper end.
    """

    delta: float
    accused: int
    streams: int
    low: float
    high: float


@runtime_checkable
class Calibrated(Protocol):
    """A detector some of whose fields are chosen on harmless streams.

    Attributes:
        uncalibrated: These fields, with values that raise no alarm; it is built with them to be calibrated.
    """

    uncalibrated: ClassVar[Mapping[str, Any]]

    def calibrated(self, chosen: Streams, held_out: Streams, fpr: float) -> tuple[Self, Calibration]:
        """Returns the detector with these fields chosen, and how it did on the held-out streams.

        Args:
            chosen: The streams that they are chosen on. For a :class:`~.detector.Featurizer` they hold features.
            held_out: Streams of other rows.
            fpr: The greatest share of the chosen streams that it accuses.

        Raises:
            BadInput: There are none, or they are too short to be tested, or there is no such rate.
        """
        ...


def calibrate(
    chosen: Collection[float], held_out: Collection[float], fpr: float, needed: int = 1, confidence: float = 0.95
) -> Calibration:
    """Chooses the greatest delta that accuses at most a share of harmless streams, and tries it on others.

    Args:
        chosen: The least statistic of each stream that it is chosen on; a statistic under delta raises an alarm.
        held_out: The least statistics of other streams.
        fpr: The share.
        needed: Rows that a stream needs for a test.
        confidence: Confidence of the interval.

    Raises:
        BadInput: There are no streams, or they are too short to be tested, or there is no such rate.
    """
    check_rate(fpr)
    if not len(chosen) or not len(held_out):
        raise BadInput(
            f"calibrate: {len(chosen)} streams to choose on and {len(held_out)} held out; expected some"
        )
    delta = sorted(chosen)[math.floor(fpr * len(chosen))]  # a statistic equal to delta raises no alarm
    if not math.isfinite(delta):
        raise BadInput(f"calibrate: the streams are too short; a test needs at least {needed} rows")
    return tried(delta, sum(least < delta for least in held_out), len(held_out), confidence)


def check_rate(fpr: float) -> None:
    """Raises :class:`~wire.BadInput` unless this is a false-positive rate."""
    if not 0 <= fpr < 1:
        raise BadInput(f"calibrate: the false-positive rate must be at least 0 and under 1, not {fpr:g}")


def tried(delta: float, accused: int, streams: int, confidence: float = 0.95) -> Calibration:
    """Returns the calibration of a delta that accused some of the held-out streams, with its interval."""
    _, low, high = exact_interval(accused, streams, confidence)
    return Calibration(delta, accused, streams, low, high)


def in_turn(streams: Streams) -> tuple[Array, list[str]]:
    """Returns the rows of accounts that each send one row in turn, and their senders, named by number.

    Raises:
        BadInput: There are no rows.
    """
    given = [rows for rows, _ in streams]
    turns = sorted((i, number) for number, rows in enumerate(given) for i in range(len(rows)))
    if not turns:
        raise BadInput("calibrate: there are no harmless rows")
    return np.stack([given[number][i] for i, number in turns]), [str(number) for _, number in turns]
