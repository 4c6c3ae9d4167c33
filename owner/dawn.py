"""DAWN's claim: does a suspect answer as an account was told, where the victim says otherwise?

Szyller, Atli, Marchal, Asokan, "DAWN: Dynamic Adversarial Watermarking of Neural Networks", ACM Multimedia 2021
(arXiv 1906.00830), "Watermark verification". The marks themselves: ``defenses/watermarks/dawn.py``.

An owner who picks rows on which any model errs alike could accuse anybody (Liu, Zhang, Szyller, Ren, Asokan,
"False Claims against Model Ownership Resolution", USENIX Security 2024). So a judge takes all marks of the account
that a published root binds, none that the committed key does not decide, and asks independent models about the
same rows: who tried rows until the key decided as he liked makes them agree, too. Where near-duplicates decide
alike they stand or fall together, so one of each cell is counted. What a judge cannot see is that an owner could
ask the suspect before he committed: then he can make marks of rows, even of near-duplicates of a single row, on
which that suspect alone errs. So the root must be older than the suspect.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pydantic

from defenses.watermarks.dawn import Keys, cells, commitment_to
from defenses.watermarks.ledger import Mark, Opening, WatermarkParameters
from defenses.watermarks.verification import chance_bound, marks_needed, tail
from owner.evidence import read
from wire import Array, BadInput, Labels, Oracle

NEAR = 1e-4  # times 1 and the median: more than what processors and libraries compute otherwise
SPENT = "The key of these marks is spent: who saw it can tell marked rows from others."


class Rejected(BadInput):
    """Evidence that does not show what it claims."""


@dataclass(frozen=True)
class Marks:
    """What the owner, or a judge, found about one suspect.

    Attributes:
        verdict: "accused" if the mark error is less than ``error`` and the tail less than ``2^-bits``, else
            "inconclusive".
        marks: How many marks are counted.
        matches: How many of them hold: the suspect answers as the account was told.
        mark_error: Share of the marks that do not hold; the paper's L.
        tail: How likely a model that was not stolen has a mark error of at most ``error``.
        p_value: How likely it has one of at most ``mark_error``.
        p0: How likely a mark holds in a model that was not stolen.
        missing: How many more marks would be enough for a verdict; 0 if these are, None if no number would.
        error: The greatest mark error that accuses.
        bits: The verdict's confidence: ``1 - 2^-bits``.
        independent: How many marks hold in each independent model, by its place; without any, p0 is a guess.
        doubtful: How many marks count as failed since the victim answers otherwise than when they were made, or
            puts them into another cell.
        suspect: Where the suspect was reached, and its model.
        opening: The account's marks, and what binds them.
        key: The marks' key in hexadecimal, for a judge; None where it was not opened.
        repeated: How many marks are not counted, since they are of the cell of another.
    """

    verdict: Literal["accused", "inconclusive"]
    marks: int
    matches: int
    mark_error: float
    tail: float
    p_value: float
    p0: float
    missing: int | None
    error: float
    bits: float
    independent: dict[str, int]
    doubtful: int
    suspect: str
    opening: Opening
    key: str | None = None
    repeated: int = 0

    def save(self, path: Path) -> None:
        """Writes it as JSON."""
        path.write_bytes(pydantic.TypeAdapter(Marks).dump_json(self, indent=2) + b"\n")

    @staticmethod
    def load(path: Path) -> Marks:
        """Reads it, or raises :class:`~wire.BadInput` saying what is wrong with the file."""
        return read(Marks, path)


@dataclass(frozen=True)
class Dawn:
    """Asks a suspect about an account's marks (Szyller et al., ACM MM 2021).

    Attributes:
        error: The greatest mark error that accuses.
        bits: The verdict's confidence: 1 - 2^-bits.
    """

    error: float = 0.5
    bits: float = 64.0

    def __post_init__(self) -> None:
        if not (0 <= self.error < 1 and 0 < self.bits <= 1000):
            raise BadInput(
                "error must lie between 0 and 1 and bits between 0 and 1,000, "
                f"but they are {self.error} and {self.bits}"
            )

    def accuse(self, suspect: Oracle, opening: Opening, independent: Mapping[str, Oracle], where: str) -> Marks:
        """Asks a suspect, as the owner.

        Args:
            suspect: The suspected model.
            opening: The account's marks.
            independent: Models that were surely not stolen.
            where: Where the suspect is, for the evidence.

        Raises:
            BadInput: The marks are not what they are said to be, or do not fit a model; nothing was asked.
            WireError: A model stopped answering.
        """
        common, marks = _counted(opening)
        for model in (suspect, *independent.values()):
            _check(model, common, marks)
        return self._found(common, marks, np.zeros(len(marks), bool), suspect, independent, opening, where)

    def judge(
        self,
        evidence: Marks,
        root: str,
        victim: Oracle,
        weights: str | None,
        suspect: Oracle,
        independent: Mapping[str, Oracle],
        where: str,
        inner: Callable[[Array], Array] | None = None,
    ) -> Marks:
        """Checks an owner's evidence and asks anew.

        Args:
            evidence: What the owner shows.
            root: The commitment that was published before the dispute, in hexadecimal.
            victim: The victim, without marks.
            weights: SHA-256 of its weights in hexadecimal; None where it is known by its answers alone.
            suspect: The suspected model.
            independent: Models of the judge's own that were surely not stolen.
            where: Where the suspect is, for the evidence.
            inner: From rows to the activations of the victim's inner layer, ``(n, units)``; for marks whose
                near-duplicates decide alike.

        Raises:
            Rejected: The evidence does not show what it claims; the suspect was not asked.
            BadInput: The marks do not fit a model.
            WireError: A model stopped answering.
        """
        if evidence.opening.root != root.lower():
            raise Rejected(f"the marks are bound by {evidence.opening.root}, but {root} was published")
        common, marks = _counted(evidence.opening)
        _check_marks(common, marks, evidence.key)
        if weights not in (None, common.victim):
            raise Rejected(f"the victim's weights are {weights}, but the marks are those of {common.victim}")
        for model in (victim, suspect, *independent.values()):
            _check(model, common, marks)
        moved = _check_cells(common, marks, inner)
        labels, said = victim.query(_rows(marks)).labels, _labels(marks, "victim_label")
        same = np.flatnonzero(labels == _labels(marks, "told_label"))
        if len(same):
            raise Rejected(f"mark {same[0]} is what the victim itself answers: it marks nothing")
        found = self._found(common, marks, moved | (labels != said), suspect, independent, evidence.opening, where)
        return replace(found, key=evidence.key)

    def _found(
        self,
        common: WatermarkParameters,
        marks: Sequence[Mark],
        doubtful: Array,
        suspect: Oracle,
        independent: Mapping[str, Oracle],
        opening: Opening,
        where: str,
    ) -> Marks:
        x, told = _rows(marks), _labels(marks, "told_label")
        agreed = {name: int((model.query(x).labels == told).sum()) for name, model in independent.items()}
        p0 = chance_bound(list(agreed.values()), len(marks), common.classes)
        matches = int(((suspect.query(x).labels == told) & ~doubtful).sum())
        n, chance = len(marks), 2.0**-self.bits
        error = 1 - matches / n
        enough = tail(n, self.error, p0) < chance
        needed = n if enough else marks_needed(self.error, p0, chance, least=n)
        return Marks(
            verdict="accused" if enough and error < self.error else "inconclusive",
            marks=n,
            matches=matches,
            mark_error=error,
            tail=tail(n, self.error, p0),
            p_value=tail(n, error, p0),
            p0=p0,
            missing=None if needed is None or error >= self.error else needed - n,
            error=self.error,
            bits=self.bits,
            independent=agreed,
            doubtful=int(doubtful.sum()),
            suspect=where,
            opening=opening,
            repeated=len(opening.entries) - n,
        )


def _check_marks(common: WatermarkParameters, marks: Sequence[Mark], key: str | None) -> None:
    """Raises :class:`Rejected` unless the committed key decides every mark and its label."""
    try:
        secret = bytes.fromhex(key or "")
    except ValueError:
        secret = b""
    if not secret:
        raise Rejected("the evidence does not open the key of the marks; the owner's command does, with --open")
    if not hmac.compare_digest(commitment_to(secret), common.key):
        raise Rejected(f"the key that was opened is not the one that {common.key} commits to")
    keys = Keys(secret)
    seen = set()
    for i, mark in enumerate(marks):
        form, point = _point(common, mark)
        if not keys.marked(common.rate, form, [point]):
            raise Rejected(
                f"mark {i} is not one that the key decides at the rate {common.rate}: it was picked by hand"
            )
        if not 0 <= mark.victim_label < common.classes:
            raise Rejected(f"mark {i} has the victim say class {mark.victim_label} of {common.classes}")
        told = keys.label(form, point, mark.victim_label, common.classes)
        if told != mark.told_label:
            raise Rejected(f"mark {i} says that class {mark.told_label} was told, but the key tells {told}")
        if (mark.form, mark.row) in seen:
            raise Rejected(f"mark {i} counts a row twice")
        seen.add((mark.form, mark.row))


def _counted(opening: Opening) -> tuple[WatermarkParameters, list[Mark]]:
    """Returns what the marks have in common, and those that count: all, or the first of each cell."""
    common, marks = opening.verified()
    if common.mapping == "median":
        marks = list({_point(common, mark): mark for mark in reversed(marks)}.values())[::-1]
    return common, marks


def _point(common: WatermarkParameters, mark: Mark) -> tuple[str, bytes]:
    """Returns form and bytes of what decides about a mark."""
    if common.mapping == "exact":
        return mark.form, mark.row
    try:
        return f"median {len(common.limits)}", bytes.fromhex(mark.cell or "")
    except ValueError:
        raise Rejected(f"a mark is of the cell {mark.cell!r}; expected hexadecimal") from None


def _check_cells(
    common: WatermarkParameters, marks: Sequence[Mark], inner: Callable[[Array], Array] | None
) -> Array:
    """Returns which marks the victim puts into another cell, by no more than rounding, ``(n,)`` bool.

    Raises:
        Rejected: It puts a mark elsewhere, or that cannot be seen.
    """
    if common.mapping == "exact":
        return np.zeros(len(marks), bool)
    if inner is None:
        raise Rejected("the victim's inner layer decides about these marks: give the victim's folder, not its URL")
    limits, activations = common.limits, inner(_rows(marks))
    if activations.shape[1:] != limits.shape:
        raise Rejected(f"there are {len(limits)} medians, but the victim's inner layer has {activations.shape[1]}")
    near = np.abs(activations - limits) <= NEAR * (1 + np.abs(limits))
    moved = np.zeros(len(marks), bool)
    for i, (cell, free) in enumerate(zip(cells(activations > limits)[1], cells(near)[1], strict=True)):
        named = _point(common, marks[i])[1]
        if len(named) != len(cell) or any((a ^ b) & ~c for a, b, c in zip(named, cell, free, strict=True)):
            raise Rejected(f"mark {i} names another cell than the one that the victim puts its row into")
        moved[i] = named != cell
    return moved


def _check(model: Oracle, common: WatermarkParameters, marks: Sequence[Mark]) -> None:
    if not marks:
        raise BadInput("there are no marks to ask about")
    forms = {mark.form for mark in marks}
    if len(forms) > 1:
        raise BadInput(f"the marks' rows are of {len(forms)} kinds: {', '.join(sorted(forms))}; expected one")
    card, shape = model.card, marks[0].x.shape
    if card.input_shape != shape:
        raise BadInput(f"model {card.model} takes rows of shape {card.input_shape}, but the marks have {shape}")
    if card.classes not in (0, common.classes):
        raise BadInput(f"model {card.model} knows {card.classes} classes, but the marks are of {common.classes}")


def _rows(marks: Sequence[Mark]) -> Array:
    """Returns the rows, ``(n, ...)``, as an oracle takes them: pixels that travelled as bytes are from 0 to 1."""
    x = np.stack([mark.x for mark in marks])
    return x.astype(np.float32) / np.float32(255) if x.dtype == np.uint8 else x


def _labels(marks: Sequence[Mark], which: Literal["victim_label", "told_label"]) -> Labels:
    return np.array([getattr(mark, which) for mark in marks], np.int64)
