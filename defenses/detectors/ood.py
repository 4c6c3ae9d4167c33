"""A filter of rows that are not of the victim's distribution; an account that sends many of them extracts it.

Source: Atli et al., "Extraction of Complex DNN Models: Real Threat or Boogeyman?", EDSMLS at AAAI 2020. A
binary classifier tells rows of the victim's kind from others, and what is told of the others is shuffled. It is
trained on the victim's rows against some others (``python -m zoo train --rows VICTIM.npz --against OTHERS.npz``),
and knows others that are like these. A thief who has rows of the victim's kind goes unseen.

The paper reacts to each row (``ood_filter``) and keeps no account. That an account has sent too many is ours
(:class:`Ood`). Either costs a forward pass of the classifier for each row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import SkipValidation

from defenses.companions import Companions
from defenses.detectors.calibration import Calibration, Streams
from defenses.detectors.counts import State, Windows
from wire import Array, BadInput, Card, Labels
from wire.tensors import DATATYPES


async def others(auxiliary: Companions | None, folder: Path, x: Array) -> Array:
    """Tells which rows a saved binary classifier takes for others, ``(n,)``."""
    assert auxiliary is not None  # the server sees to it
    probs = await (await auxiliary.load(folder))(x)
    if probs.shape[1] != 2:
        raise BadInput(f"{folder}: it has {probs.shape[1]} classes; expected 2, the second that of other rows")
    return probs[:, 1] > probs[:, 0]


async def try_out(auxiliary: Companions | None, folder: Path, card: Card) -> None:
    """Asks a classifier about a row, or raises :class:`~wire.BadInput` if it cannot be asked about a victim's."""
    await others(auxiliary, folder, np.zeros((1, *card.input_shape), DATATYPES[card.dtype]))


@dataclass(frozen=True)
class Ood:
    """Counts how many of an account's latest rows are not of the victim's kind.

    An account's log keeps a byte of each row, its state one of each of the latest.

    Attributes:
        folder: Folder of the binary classifier; relative to the server's TOML file, or to where it was started.
        delta: An alarm is raised where a greater share of the account's latest rows is other; from
            :meth:`calibrated`. The classifier takes some of the victim's own kind for others too.
        rows: How many rows these are.
        interval: Rows from one test to the next; ``rows`` by default.
        auxiliary: Where the classifier is computed.
    """

    __pydantic_config__ = {"arbitrary_types_allowed": True}  # noqa: RUF012  # for what is auxiliary
    blank: ClassVar[Mapping[str, Any]] = {"delta": 1.0}

    folder: Path
    delta: float
    rows: int = 100
    interval: int | None = None
    auxiliary: Annotated[Companions | None, SkipValidation] = field(default=None, repr=False, compare=False)
    _windows: Windows = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0 <= self.delta <= 1:
            raise BadInput(f"ood: delta must lie between 0 and 1, not {self.delta:g}")
        object.__setattr__(self, "_windows", Windows("ood", self.rows, self.interval, 2))

    async def prepare(self, card: Card) -> None:
        """Tries the classifier.

        Raises:
            BadInput: Its folder is broken, or it is for other rows.
        """
        await try_out(self.auxiliary, self.folder, card)

    async def features(self, x: Array, labels: Labels) -> Array:
        """Returns 1 for other rows and 0 for those of the victim's kind, ``(n,)`` uint8."""
        return (await others(self.auxiliary, self.folder, x)).astype(np.uint8)

    def begin(self, saved: bytes | None = None) -> State:
        """Returns the state of an account of no rows, or one that was saved (ValueError if that is broken)."""
        return self._windows.begin(saved)

    def observe(self, state: State, rows: Array, labels: Labels) -> State:
        """Takes what was noted of more rows; the state is the same however they are split into calls.

        Raises:
            ValueError: These are no such notes. Nothing was changed.
        """
        return self._windows.observe(state, rows, labels, self._shares, self.delta)

    def calibrated(self, chosen: Streams, held_out: Streams, fpr: float) -> tuple[Ood, Calibration]:
        """Returns it with delta chosen on harmless streams (:class:`~.calibration.Calibrated`)."""
        found = self._windows.calibrate(list(chosen), list(held_out), fpr, self._shares)
        return replace(self, delta=found.delta), found

    def _shares(self, counts: Array) -> Array:
        return counts[:, 1] / self.rows
