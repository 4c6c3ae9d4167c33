"""OOD: flags an account that sends many out-of-distribution queries.

Source of the classifier: Atli et al., "Extraction of Complex DNN Models: Real Threat or Boogeyman?", EDSMLS at
AAAI 2020. A binary classifier separates rows of the victim's distribution from others. It is trained on the
victim's rows against other rows (``python -m zoo train --rows VICTIM.npz --against OTHERS.npz``), and recognises
rows that resemble the latter. It does not detect an attacker with rows of the victim's own distribution.

The paper shuffles the answer to each such query (:class:`~defenses.answers.ood_filter.OodFilter`) and does not
track accounts. Counting such queries per account is our addition.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from defenses.companions import Companions
from defenses.detectors.calibration import Calibration, Streams
from defenses.detectors.counts import State, Windows
from defenses.detectors.detector import Features, zero_row
from wire import Array, BadInput, Card, Labels


async def load_filter(companions: Companions, folder: Path, card: Card) -> Callable[[Array], Awaitable[Array]]:
    """Loads a binary classifier, and returns a function that finds out-of-distribution rows, ``(n,)`` bool.

    Raises:
        BadInput: The folder is invalid, its model and the victim take different rows, or it does not have two
            classes.
    """
    classify = await companions.load(folder)

    async def others(x: Array) -> Array:
        probs = await classify(x)
        if probs.shape[1] != 2:
            raise BadInput(
                f"{folder}: the model has {probs.shape[1]} classes; expected 2, the second for other rows"
            )
        return probs[:, 1] > probs[:, 0]

    await others(zero_row(card))
    return others


@dataclass(frozen=True)
class Ood:
    """Counts how many of an account's latest rows are out of the victim's distribution.

    Each row costs a forward pass of the classifier. The log stores one byte per row.

    Attributes:
        folder: Folder of the binary classifier, relative to the server's TOML file, or to the working directory.
        delta: Threshold on the share of out-of-distribution rows; a larger share raises an alarm. It is
            calibrated, because the classifier misjudges some rows of the victim's distribution.
        rows: Number of latest rows to test.
        interval: Rows from one test to the next; ``rows`` by default.
    """

    uncalibrated: ClassVar[Mapping[str, Any]] = {"delta": 1.0}
    any_rows: ClassVar[bool] = True

    folder: Path
    delta: float
    rows: int = 100
    interval: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.delta <= 1:
            raise BadInput(f"ood: delta must lie between 0 and 1, not {self.delta:g}")
        _ = self.windows  # checks rows and interval

    @property
    def windows(self) -> Windows:
        """The windows of rows to test."""
        return Windows(self.rows, self.interval, 2)

    async def featurizer(self, companions: Companions, card: Card) -> Features:
        """Returns a function that gives 1 for out-of-distribution rows and 0 for others, ``(n,)`` uint8.

        Raises:
            BadInput: The classifier is invalid or takes other rows.
        """
        others = await load_filter(companions, self.folder, card)

        async def features(x: Array, labels: Labels) -> Array:
            return (await others(x)).astype(np.uint8)

        return features

    def begin(self) -> State:
        """Returns the state of an account that has sent nothing."""
        return State()

    def observe(self, state: State, rows: Array, labels: Labels) -> State:
        """Folds the features of more rows into a state (:meth:`~.detector.Detector.observe`)."""
        return self.windows.observe(state, rows, labels, self._shares, self.delta)

    def calibrated(self, chosen: Streams, held_out: Streams, fpr: float) -> tuple[Ood, Calibration]:
        """Returns the detector with ``delta`` chosen on harmless streams (:class:`~.calibration.Calibrated`)."""
        found = self.windows.calibrate(list(chosen), list(held_out), fpr, self._shares)
        return replace(self, delta=found.delta), found

    def _shares(self, histograms: Array) -> Array:
        return histograms[:, 1] / self.rows
