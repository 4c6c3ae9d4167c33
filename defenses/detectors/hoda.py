"""HODA: flags an account whose queries are unusually easy or hard for the victim.

Source: Sadeghzadeh et al., "HODA: Hardness-Oriented Detection of Model Extraction Attacks", arXiv 2106.11424. A
sample's hardness is the number of the training checkpoint from which the victim's label no longer changes. The
hardness histogram of an extraction attack's queries differs from that of harmless queries, even if the attack uses
natural images. (Synthetic queries, which PRADA detects, differ less: ``python -m experiments reproduce B2``.)

How much it tells depends on the victim: JbDA was found in 96 % of the streams on an MLP and in 11 % on a CNN. And
a harmless customer who asks about one class only has another histogram than all rows together: calibrated on
mixed rows, HODA accused all such customers for 8 of 10 classes. So calibrate with the streams of such accounts
(``account`` in ``calibrate``), at the price of a larger ``delta``.

The paper tests sequences of ``num_s`` queries of a user, and does not say whether they overlap. It stores 11
numbers per user, which suggests that they do not. This is the default here; ``interval`` makes them overlap.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from defenses.companions import Companions
from defenses.detectors.calibration import Calibration, Streams
from defenses.detectors.counts import State, Windows
from defenses.detectors.detector import Features, zero_row
from wire import Array, BadInput, Card, Labels

_DIGITS = 6  # decimals of the shares in ``benign``


@dataclass(frozen=True)
class Hoda:
    """Compares the hardness histogram of an account's latest rows with that of harmless rows.

    Each of the victim's earlier checkpoints costs a forward pass: 10 in addition to the victim's own if it was
    trained with ``checkpoints = 11``, as in the paper. The log stores one byte per row.

    Attributes:
        delta: Threshold on the Pearson distance between the two histograms; a larger distance raises an alarm. The
            distance is 1 minus the correlation, and lies between 0 and 2.
        benign: The harmless histogram: the shares of rows whose label no longer changes from the first checkpoint,
            from the second, ..., from the last, which is the victim itself.
        rows: Rows in an account's histogram, the paper's ``num_s``.
        interval: Rows from one test to the next; ``rows`` by default.
    """

    uncalibrated: ClassVar[Mapping[str, Any]] = {"delta": 2.0, "benign": (1.0, *[0.0] * 10)}
    needs_classes: ClassVar[bool] = True

    delta: float
    benign: tuple[float, ...]
    rows: int = 100
    interval: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.delta <= 2:
            raise BadInput(f"hoda: delta must lie between 0 and 2, not {self.delta:g}")
        shares = np.array(self.benign)
        if len(shares) < 2 or not (np.isfinite(shares) & (shares >= 0)).all() or shares.min() == shares.max():
            raise BadInput(
                f"hoda: benign must have a share of rows for each checkpoint, not all equal, not {self.benign}"
            )
        _ = self.windows  # checks rows and interval

    @property
    def windows(self) -> Windows:
        """The windows of rows to test."""
        return Windows(self.rows, self.interval, len(self.benign))

    async def featurizer(self, companions: Companions, card: Card) -> Features:
        """Returns the function that computes the hardness of rows, ``(n,)`` uint8.

        Raises:
            BadInput: The victim has no checkpoints, or not as many as ``benign``.
        """
        try:
            checkpoints = await companions.checkpoints()
            probs = await checkpoints(zero_row(card))
        except BadInput as error:
            raise BadInput(f"hoda: needs the victim's earlier checkpoints, but {error}") from None
        if probs.shape[2] + 1 != len(self.benign):
            raise BadInput(
                f"hoda: the victim has {probs.shape[2] + 1} checkpoints, but benign has {len(self.benign)} shares"
            )

        async def features(x: Array, labels: Labels) -> Array:
            return hardness(await checkpoints(x), labels)

        return features

    def begin(self) -> State:
        """Returns the state of an account that has sent nothing."""
        return State()

    def observe(self, state: State, rows: Array, labels: Labels) -> State:
        """Folds the hardness of more rows into a state (:meth:`~.detector.Detector.observe`)."""
        return self.windows.observe(state, rows, labels, self.distances, self.delta)

    def distances(self, histograms: Array) -> Array:
        """Returns the Pearson distances of histograms ``(m, bins)`` to the harmless one, ``(m,)``; 1 if flat."""
        x, y = _centred(histograms), _centred(np.array(self.benign))
        size = np.sqrt((x * x).sum(axis=1) * (y * y).sum())
        distances: Array = 1 - np.divide((x * y).sum(axis=1), size, out=np.zeros(len(x)), where=size > 0)
        return distances

    def calibrated(self, chosen: Streams, held_out: Streams, fpr: float) -> tuple[Hoda, Calibration]:
        """Returns the detector with ``benign`` and ``delta`` chosen (:class:`~.calibration.Calibrated`).

        ``benign`` is the mean over all rows; ``delta`` is chosen from the largest distance in each stream. The
        paper draws 40,000 streams of ``rows`` rows and uses an ``fpr`` of 0.
        """
        chosen = list(chosen)
        totals = self.windows.totals(chosen)
        fitted = replace(self, benign=tuple((totals / max(1, totals.sum())).round(_DIGITS).tolist()))
        found = self.windows.calibrate(chosen, held_out, fpr, fitted.distances)
        return replace(fitted, delta=found.delta), found


def hardness(probs: Array, labels: Labels) -> Array:
    """Returns the hardness of rows, ``(n,)`` uint8: the checkpoint from which the label no longer changes.

    Args:
        probs: Probabilities of k classes at the c checkpoints before the last, earliest first, ``(n, k, c)``.
        labels: The victim's own labels, ``(n,)``. The victim is the last checkpoint, so the hardness is c if the
            checkpoint before it gives another label.
    """
    differs = probs.argmax(axis=1) != labels[:, None]
    since = differs[:, ::-1].argmax(axis=1)  # checkpoints after the last one that differs
    return np.where(differs.any(axis=1), differs.shape[1] - since, 0).astype(np.uint8)


def _centred(x: Array) -> Array:
    centred: Array = x - x.mean(axis=-1, keepdims=True)
    return centred
