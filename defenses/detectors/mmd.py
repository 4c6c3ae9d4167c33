"""MMD: flags an account whose window of rows is distributed unlike harmless rows.

Source: Liu, Guo, Dong, "An Embarrassingly Simple Detector for Model Extraction Attacks in Large Language Model
API Traffic", arXiv 2606.05725: the maximum mean discrepancy (Gretton et al., JMLR 2012) between a window of
traffic and harmless traffic in an embedding space, with a threshold from harmless traffic alone.

What differs: rows are embedded by the victim's own features, not by a sentence encoder; the Gaussian kernel is
approximated by random features (:mod:`defenses.monitoring.embedding`), so that an account's state is one sum; a
window has one account's rows; and with ``by_class`` a row is compared with harmless rows of the class that the
victim gave it, so that a customer who asks about one class only is no anomaly for that.

Limits: rows of the harmless distribution show nothing, whatever they are for. Harmless rows of another source
(another scanner, another town) look like an attack unless such streams were in the calibration. Among harmless
rows, the statistic falls with the square of an attack's share.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from defenses.companions import Companions
from defenses.detectors.calibration import Calibration, Streams, calibrate
from defenses.detectors.detector import Alarm, Features
from defenses.monitoring.embedding import Embedding
from wire import Array, BadInput, Card, Labels


@dataclass
class State:
    """The state of one account.

    Attributes:
        rows: Number of rows that the account sent.
        alarm: The first alarm.
        seen: Number of rows in the present window.
        total: The sum of their features, ``(d,)``; empty before the first row.
        squares: The sum of their squared norms.
    """

    rows: int = 0
    alarm: Alarm | None = None
    seen: int = 0
    total: Array = field(default_factory=lambda: np.empty(0))
    squares: float = 0.0

    @property
    def nbytes(self) -> int:
        """Memory of the arrays, in bytes."""
        return self.total.nbytes


@dataclass(frozen=True)
class Mmd:
    """Tests each window of an account's rows for a discrepancy from harmless rows.

    A row costs a forward pass for the victim's features, and the log stores 1 KiB. It also watches victims of
    texts and of rows with missing features.

    Attributes:
        reference: File of harmless rows (npz) that the victim was not trained on, with labels for ``by_class``.
        delta: Threshold on the squared discrepancy, unbiased; a greater one raises an alarm.
        rows: Rows in a window; windows do not overlap.
        by_class: Whether a row is compared with harmless rows of its class, or with all.
    """

    uncalibrated: ClassVar[Mapping[str, Any]] = {"delta": 4.0}
    needs_classes: ClassVar[bool] = True
    any_rows: ClassVar[bool] = True

    reference: Path
    delta: float
    rows: int = 200
    by_class: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.delta <= 4 or self.rows < 2:
            raise BadInput(
                f"mmd: delta must lie between 0 and 4, and rows be at least 2, not {self.delta:g} and {self.rows}"
            )

    async def featurizer(self, companions: Companions, card: Card) -> Features:
        """Reads the harmless rows; returns the function from rows to their features.

        Raises:
            BadInput: The file does not exist, or its rows do not fit the victim.
        """
        return (await Embedding.of(self.reference, companions, card, self.by_class)).features

    def begin(self) -> State:
        """Returns the state of an account that has sent nothing."""
        return State()

    def observe(self, state: State, rows: Array, labels: Labels) -> State:
        """Folds the features of more rows into a state (:meth:`~.detector.Detector.observe`)."""
        self._fold(state, rows, labels)
        return state

    def calibrated(self, chosen: Streams, held_out: Streams, fpr: float) -> tuple[Mmd, Calibration]:
        """Returns the detector with ``delta`` chosen on harmless streams (:class:`~.calibration.Calibrated`)."""
        on, others = (
            [-max(self._fold(State(), *stream), default=-math.inf) for stream in of] for of in (chosen, held_out)
        )
        found = calibrate(on, others, fpr, self.rows)
        found = found._replace(delta=max(0.0, -found.delta))
        return replace(self, delta=found.delta), found

    def _fold(self, state: State, rows: Array, labels: Labels) -> list[float]:
        """Folds rows into a state; returns the discrepancies of the windows that end."""
        x, found = rows.reshape(len(rows), -1).astype(np.float64), []
        if len(x) != len(labels) or len(state.total) not in (0, x.shape[1]):
            raise ValueError(f"{x.shape} features of {len(labels)} rows, after rows of {len(state.total)}")
        while len(x):
            part, x = x[: self.rows - state.seen], x[self.rows - state.seen :]
            state.total = part.sum(axis=0) + (state.total if len(state.total) else 0)
            state.squares += float((part * part).sum())
            state.seen += len(part)
            state.rows += len(part)
            if state.seen == self.rows:
                pairs = float(state.total @ state.total) - state.squares
                found.append(pairs / (self.rows * (self.rows - 1)))
                if state.alarm is None and found[-1] > self.delta:
                    state.alarm = Alarm(state.rows, found[-1])
                state.total, state.squares, state.seen = np.zeros_like(state.total), 0.0, 0
        return found
