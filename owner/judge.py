"""The judge of a DAWN claim: checks an owner's evidence, and asks the suspect anew.

An owner who picks rows on which any model errs in the same way could accuse anybody (Liu, Zhang, Szyller, Ren,
Asokan, "False Claims against Model Ownership Resolution", USENIX Security 2024). So a judge takes all marks of the
account that a published root binds, rejects marks that the committed key does not decide, and asks independent
models about the same rows: an owner who tried rows until the key decided as he liked makes those agree, too.

A judge cannot see whether the owner could ask the suspect before he committed. Then the owner can make marks of
rows, even of near-duplicates of one row, on which that suspect alone errs. So the root must be older than the
suspect. An owner of many accounts can show the best of them: multiply the p-value by the number of accounts, which
the opening reveals.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from defenses.watermarks.key import WatermarkKey
from defenses.watermarks.ledger import Mark, WatermarkParameters
from defenses.watermarks.mapping import cells
from owner.dawn import Claim, Dawn, check_fit, counted, mapped, rows_of, told_labels
from owner.evidence import Evidence
from owner.marks_held import MarksHeld
from wire import Array, BadInput, Oracle

NEAR = 1e-4  # times 1 and the median: more than processors and libraries differ by
CAUTION = "The verdict holds if the root was published before the owner could ask the suspect."
CHOSEN = "The owner could have chosen the best of {} accounts: multiply the p-value by that."
UNSEEN = "The victim's weights were not compared with the committed ones: give its folder, not its URL."


class Rejected(BadInput):
    """Evidence that does not show what it claims."""


@dataclass(frozen=True)
class Victim:
    """The victim before a judge.

    Attributes:
        oracle: The victim, without marks.
        fingerprint: SHA-256 of its weights in hexadecimal; None if it is known by its answers only.
        activations: From rows to the activations of its penultimate layer, ``(n, units)``; likewise.
    """

    oracle: Oracle
    fingerprint: str | None = None
    activations: Callable[[Array], Array] | None = None


def judge(
    method: Dawn,
    evidence: Evidence[MarksHeld],
    root: str,
    victim: Victim,
    suspect: Oracle,
    independent: Mapping[str, Oracle],
) -> Evidence[MarksHeld]:
    """Checks an owner's evidence and asks anew.

    Args:
        method: The claim's settings, as the judge wants them.
        evidence: The owner's evidence, with the opened key.
        root: The commitment that was published before the dispute, in hexadecimal.
        victim: The victim.
        suspect: The suspected model.
        independent: The judge's own models that were surely not stolen, by name.

    Raises:
        Rejected: The evidence does not show what it claims; the suspect was not asked.
        BadInput: The marks do not fit a model.
        WireError: A model stopped answering.
    """
    opening, key = evidence.details.opening, evidence.details.key
    if opening.root != root.lower():
        raise Rejected(f"the marks are bound by {opening.root}, but {root} was published")
    parameters, marks = counted(opening)
    _check_marks(parameters, marks, key)
    if victim.fingerprint not in (None, parameters.victim):
        raise Rejected(
            f"the victim's weights are {victim.fingerprint}, but the marks are those of {parameters.victim}"
        )
    claim = Claim(opening, independent)
    method.check(suspect.card, claim)
    check_fit(victim.oracle.card, parameters, marks)
    moved = _moved(parameters, marks, victim.activations)
    labels = victim.oracle.query(rows_of(marks)).labels
    same = np.flatnonzero(labels == told_labels(marks))
    if len(same):
        raise Rejected(f"mark {same[0]} is the victim's own answer: it marks nothing")
    doubtful = moved | (labels != np.array([mark.victim_label for mark in marks]))
    rng = np.random.default_rng(0)
    found = method.accuse(suspect, replace(method.prepare(claim, rng), doubtful=doubtful), rng)
    accounts = len(opening.accounts)
    cautions = [CAUTION, *[CHOSEN.format(accounts)] * (accounts > 1), *[UNSEEN] * (victim.fingerprint is None)]
    return replace(found, details=replace(found.details, key=key), caution=" ".join(cautions))


def _check_marks(parameters: WatermarkParameters, marks: Sequence[Mark], key: str | None) -> None:
    """Raises :class:`Rejected` unless the committed key decides every mark and its label."""
    try:
        secret = bytes.fromhex(key or "")
    except ValueError:
        secret = b""
    if not secret:
        raise Rejected("the evidence does not open the key of the marks; the owner's command does, with --open")
    keys = WatermarkKey(secret)
    if keys.commitment != parameters.key:
        raise Rejected(f"the opened key is not the one that {parameters.key} commits to")
    seen = set()
    for i, mark in enumerate(marks):
        form, point = mapped(parameters, mark)
        if not keys.marked(parameters.rate, form, [point]):
            raise Rejected(
                f"mark {i} is not one that the key decides at the rate {parameters.rate}: it was picked by hand"
            )
        if not 0 <= mark.victim_label < parameters.classes:
            raise Rejected(f"mark {i} has the victim's label {mark.victim_label}, of {parameters.classes} classes")
        label = keys.false_label(form, point, mark.victim_label, parameters.classes)
        if label != mark.told_label:
            raise Rejected(f"mark {i} has the false label {mark.told_label}, but the key gives {label}")
        if (mark.form, mark.row) in seen:
            raise Rejected(f"mark {i} counts a row twice")
        seen.add((mark.form, mark.row))


def _moved(
    parameters: WatermarkParameters, marks: list[Mark], activations_of: Callable[[Array], Array] | None
) -> Array:
    """Returns which marks the victim puts into another cell, by no more than rounding, ``(n,)`` bool.

    Raises:
        Rejected: It puts a mark into a cell further away, or the cells cannot be computed.
    """
    if parameters.mapping == "exact":
        return np.zeros(len(marks), bool)
    if activations_of is None:
        raise Rejected(
            "the victim's penultimate layer decides about these marks: give the victim's folder, not its URL"
        )
    limits, activations = parameters.limits, activations_of(rows_of(marks))
    if activations.shape[1:] != limits.shape:
        raise Rejected(
            f"there are {len(limits)} medians, but the victim's penultimate layer has {activations.shape[1]} units"
        )
    near = np.abs(activations - limits) <= NEAR * (1 + np.abs(limits))
    moved = np.zeros(len(marks), bool)
    for i, (cell, free) in enumerate(zip(cells(activations > limits)[1], cells(near)[1], strict=True)):
        named = mapped(parameters, marks[i])[1]
        if len(named) != len(cell) or any((a ^ b) & ~c for a, b, c in zip(named, cell, free, strict=True)):
            raise Rejected(f"mark {i} names another cell than the one that the victim puts its row into")
        moved[i] = named != cell
    return moved
