"""Chooses a detector's threshold on harmless streams, and measures its false positives on others."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol, Self, runtime_checkable

import numpy as np

from defenses.detectors.detector import Sent
from wire import Array, BadInput, Labels
from zoo.exact_interval import exact_interval

Streams = Iterable[tuple[Array, Labels]]
"""Per account, the rows or features that a detector observes, ``(n, ...)``, and the victim's labels, ``(n,)``."""

Sendings = tuple[Array, Labels, Sequence[Sent]]
"""An account's rows or features, the victim's labels, and when and from where each row came."""


class Calibration(NamedTuple):
    """A threshold, and its false-positive rate on held-out harmless streams.

    Attributes:
        delta: The threshold.
        accused: Number of held-out streams on which the detector raises an alarm.
        streams: Number of held-out streams.
        low: Lower end of the confidence interval of the false-positive rate (Clopper, Pearson, "The use of
            confidence or fiducial limits illustrated in the case of the binomial", Biometrika 1934).
        high: Upper end of the interval.
    """

    delta: float
    accused: int
    streams: int
    low: float
    high: float


@runtime_checkable
class Calibrated(Protocol):
    """A detector with fields that are chosen on harmless streams.

    Attributes:
        uncalibrated: These fields, with values that raise no alarm, to build a detector before its calibration.
    """

    uncalibrated: ClassVar[Mapping[str, Any]]

    def calibrated(self, chosen: Streams, held_out: Streams, fpr: float) -> tuple[Self, Calibration]:
        """Returns the calibrated detector, and its performance on the held-out streams.

        Args:
            chosen: The streams on which the fields are chosen; features for a :class:`~.detector.Featurizer`.
            held_out: Streams of other rows.
            fpr: Maximum share of the chosen streams that raise an alarm.

        Raises:
            BadInput: There are no streams, the streams are too short for a test, or ``fpr`` is out of range.
        """
        ...


def calibrate(
    chosen: Collection[float], held_out: Collection[float], fpr: float, needed: int = 1, confidence: float = 0.95
) -> Calibration:
    """Chooses the largest delta that accuses at most a share of harmless streams, and tests it on others.

    Args:
        chosen: The smallest statistic of each stream for the choice; a statistic below delta raises an alarm.
        held_out: The smallest statistic of each held-out stream.
        fpr: Maximum share of accused streams.
        needed: Number of rows that a test needs.
        confidence: Confidence level of the interval.

    Raises:
        BadInput: There are no streams, the streams are too short for a test, or ``fpr`` is out of range.
    """
    check_rate(fpr)
    if not len(chosen) or not len(held_out):
        raise BadInput(
            f"calibrate: {len(chosen)} streams to choose on and {len(held_out)} held out; expected at least one"
        )
    delta = sorted(chosen)[math.floor(fpr * len(chosen))]  # a statistic equal to delta raises no alarm
    if not math.isfinite(delta):
        raise BadInput(f"calibrate: the streams are too short; a test needs at least {needed} rows")
    return tried(delta, sum(least < delta for least in held_out), len(held_out), confidence)


def check_rate(fpr: float) -> None:
    """Raises :class:`~wire.BadInput` unless ``0 <= fpr < 1``."""
    if not 0 <= fpr < 1:
        raise BadInput(f"calibrate: the false-positive rate must be at least 0 and less than 1, not {fpr:g}")


def tried(delta: float, accused: int, streams: int, confidence: float = 0.95) -> Calibration:
    """Returns the calibration of a delta that accused ``accused`` of the held-out streams."""
    _, low, high = exact_interval(accused, streams, confidence)
    return Calibration(delta, accused, streams, low, high)


def in_turn(streams: Streams) -> tuple[Array, list[str]]:
    """Interleaves the rows of accounts that take turns, one row each; names each row's sender by number.

    Raises:
        BadInput: There are no rows.
    """
    accounts = [rows for rows, _ in streams]
    turns = sorted((i, number) for number, rows in enumerate(accounts) for i in range(len(rows)))
    if not turns:
        raise BadInput("calibrate: there are no harmless rows")
    return np.stack([accounts[number][i] for i, number in turns]), [str(number) for _, number in turns]


def in_order(streams: Iterable[Any]) -> tuple[Array, list[str], list[Sent]]:
    """Puts the rows of accounts in the order in which they came, and names each row's sender by number.

    Args:
        streams: :data:`Sendings` of each account.

    Raises:
        BadInput: There are no rows, or it is not known when they came.
    """
    known = list(streams)
    if any(len(stream) < 3 for stream in known):
        raise BadInput("calibrate: it is not known when the rows came; calibrate on a log of requests")
    sent = [each for stream in known for each in stream[2]]
    if not sent:
        raise BadInput("calibrate: there are no harmless rows")
    order = np.argsort([each.at for each in sent], kind="stable").tolist()
    rows = np.concatenate([stream[0] for stream in known])[order]
    names = [str(number) for number, stream in enumerate(known) for _ in stream[2]]
    return rows, [names[i] for i in order], [sent[i] for i in order]
