"""HODA: an account whose rows are not as hard for the victim as harmless rows are extracts it.

Source: Sadeghzadeh et al., "HODA: Hardness-Oriented Detection of Model Extraction Attacks", arXiv 2106.11424. A
row is the harder, the later in the victim's training its label settled. What a thief without the victim's data
sends is of another hardness, even if it is natural images. (Synthetic rows, which PRADA knows, are less so:
``python -m experiments reproduce B2``.)

The paper tests sequences of some rows of an account. Whether these overlap it leaves open; the 11 numbers that it
keeps of an account say that they do not. That is the default here; ``interval`` makes them overlap. The alarm is
the account's first one, and stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import SkipValidation

from defenses.companions import Companions
from defenses.detectors.calibration import Calibration, Streams
from defenses.detectors.counts import State, Windows
from wire import Array, BadInput, Card, Labels
from wire.tensors import DATATYPES

_DIGITS = 6  # of a share of harmless rows


@dataclass(frozen=True)
class Hoda:
    """Compares how hard an account's latest rows are with how hard harmless ones are.

    What the victim's earlier checkpoints say costs a forward pass each: 10 beside the victim's own, where it was
    trained with ``checkpoints = 11``, as in the paper. An account's log keeps a byte of each row, its state one of
    each of the latest.

    Attributes:
        delta: An alarm is raised where the Pearson distance between the histogram of the account's hardness and
            the harmless one is greater. It is 1 minus their correlation, and lies between 0 and 2.
        benign: The harmless histogram: which share of rows has the victim's label from the first checkpoint on,
            from the second on, ..., from the last on, which is the victim itself.
        rows: Rows in an account's histogram, the paper's num_s.
        interval: Rows from one test to the next; ``rows`` by default.
        auxiliary: Where the checkpoints are.
    """

    __pydantic_config__ = {"arbitrary_types_allowed": True}  # noqa: RUF012  # for what is auxiliary
    blank: ClassVar[Mapping[str, Any]] = {"delta": 2.0, "benign": (1.0, *[0.0] * 10)}

    delta: float
    benign: tuple[float, ...]
    rows: int = 100
    interval: int | None = None
    auxiliary: Annotated[Companions | None, SkipValidation] = field(default=None, repr=False, compare=False)
    _windows: Windows = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0 <= self.delta <= 2:
            raise BadInput(f"hoda: delta must lie between 0 and 2, not {self.delta:g}")
        shares = np.array(self.benign)
        if len(shares) < 2 or not (np.isfinite(shares) & (shares >= 0)).all() or shares.min() == shares.max():
            raise BadInput(
                f"hoda: benign must be a share of rows for each checkpoint, not all equal, not {self.benign}"
            )
        object.__setattr__(self, "_windows", Windows("hoda", self.rows, self.interval, len(shares)))

    async def prepare(self, card: Card) -> None:
        """Tries the checkpoints.

        Raises:
            BadInput: The victim has none, or not as many as the harmless histogram.
        """
        try:
            said = await self._said(np.zeros((1, *card.input_shape), DATATYPES[card.dtype]))
        except BadInput as error:
            raise BadInput(f"hoda: asks what the victim said in its training, but {error}") from None
        if said.shape[2] + 1 != len(self.benign):
            raise BadInput(
                f"hoda: the victim has {said.shape[2] + 1} checkpoints, and benign is of {len(self.benign)}"
            )

    async def features(self, x: Array, labels: Labels) -> Array:
        """Returns how hard rows are, ``(n,)`` uint8; see :func:`hardness`."""
        return hardness(await self._said(x), labels)

    async def _said(self, x: Array) -> Array:
        assert self.auxiliary is not None  # the server sees to it
        return await (await self.auxiliary.checkpoints())(x)

    def begin(self, saved: bytes | None = None) -> State:
        """Returns the state of an account of no rows, or one that was saved (ValueError if that is broken)."""
        return self._windows.begin(saved)

    def observe(self, state: State, rows: Array, labels: Labels) -> State:
        """Takes how hard more rows are (:meth:`note`); the state is the same however they are split into calls.

        Raises:
            ValueError: They are no degrees of hardness. Nothing was changed.
        """
        return self._windows.observe(state, rows, labels, self.distances, self.delta)

    def distances(self, histograms: Array) -> Array:
        """Returns the Pearson distances of histograms ``(m, bins)`` to the harmless one, ``(m,)``; 1 if flat."""
        x, y = _centred(histograms), _centred(np.array(self.benign))
        size = np.sqrt((x * x).sum(axis=1) * (y * y).sum())
        distances: Array = 1 - np.divide((x * y).sum(axis=1), size, out=np.zeros(len(x)), where=size > 0)
        return distances

    def calibrated(self, chosen: Streams, held_out: Streams, fpr: float) -> tuple[Hoda, Calibration]:
        """Returns it with delta and the harmless histogram chosen (:class:`~.calibration.Calibrated`).

        The histogram is the mean over all rows, delta the greatest distance in a stream; the paper draws 40,000
        streams of ``rows`` rows, and wants an ``fpr`` of 0.
        """
        chosen = list(chosen)
        totals = self._windows.totals(chosen)
        to = replace(self, benign=tuple((totals / max(1, totals.sum())).round(_DIGITS).tolist()))
        found = self._windows.calibrate(chosen, held_out, fpr, to.distances)
        return replace(to, delta=found.delta), found


def hardness(said: Array, labels: Labels) -> Array:
    """Returns the degrees of hardness, ``(n,)`` uint8: the number of the checkpoint from which on the label stays.

    Args:
        said: Probabilities of k classes at the c checkpoints before the last, the earliest first, ``(n, k, c)``.
        labels: The victim's own, which is the last checkpoint, ``(n,)``; a label that it alone gives makes c.
    """
    differs = said.argmax(axis=1) != labels[:, None]
    since = differs[:, ::-1].argmax(axis=1)  # checkpoints after the latest that differs
    return np.where(differs.any(axis=1), differs.shape[1] - since, 0).astype(np.uint8)


def _centred(x: Array) -> Array:
    centred: Array = x - x.mean(axis=-1, keepdims=True)
    return centred
