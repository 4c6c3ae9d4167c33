"""The judge of a DAWN claim: checks an owner's evidence, and queries the suspect again.

An owner who picks rows on which all models err in the same way could accuse anyone (Liu, Zhang, Szyller, Ren,
Asokan, "False Claims against Model Ownership Resolution", USENIX Security 2024). So a judge uses all marks of the
account that a published root binds, rejects marks that the committed key does not give, and queries independent
models with the same rows: if an owner tries rows until the key gives suitable marks, independent models agree too.

A judge cannot see whether the owner could query the suspect before committing. If so, the owner can mark rows,
even near-duplicates of one row, on which only that suspect errs: a hundred that were searched for all held
against an innocent model. The verdict counts what was observed, so at p0 = 0.13 he needs 22 such rows for 2^-64
where all hold; a rule that asks for an error of one half whatever was observed took 101. Neither number protects
anybody: the root must be older than the suspect, and its date carries the whole claim. An owner of many accounts
can present the best of them: the p-value is multiplied by the number of accounts, which the opening reveals.

A mark on which the victim, as the judge has it, gives another label than the ledger says counts as failed. The
server may have run it in another runtime, and on rows that were bisected to float precision two runtimes disagree
nearly half of the time; so a thief can spoil marks, but not the claim. If more than half of the marks are the
victim's own answers, they mark nothing, and the evidence is rejected.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from defenses.watermarks.key import WatermarkKey
from defenses.watermarks.ledger import Mark, WatermarkParameters
from defenses.watermarks.mapping import cells
from owner.counted_marks import check_fit, counted, mapped, rows_of, told_labels, ways
from owner.dawn import Claim, Dawn
from owner.evidence import Evidence
from owner.judgement import Rejected
from owner.marks_held import MarksHeld
from wire import Array, Oracle

NEAR = 1e-4  # times (1 + median): exceeds the rounding differences between processors and libraries
CAUTION = "The verdict holds if the root was published before the owner could query the suspect."
CHOSEN = "The owner could have chosen the best {} of {} accounts: the p-value is multiplied by {}."
MOST_OWN = 0.5  # largest share of marks that may be the victim's own answers; on bisected rows 42 % were
UNSEEN = "The victim's weights were not compared with the committed ones: give its folder, not its URL."


@dataclass(frozen=True)
class Victim:
    """The victim, as a judge has access to it.

    Attributes:
        oracle: The victim, without marks.
        fingerprint: SHA-256 of its weights, in hexadecimal; None if the weights are not available.
        activations: Maps rows to activations of the penultimate layer, ``(n, units)``; None likewise.
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
    """Checks an owner's evidence, and queries all models again.

    Args:
        method: The judge's settings of the claim.
        evidence: The owner's evidence, with the revealed key.
        root: The commitment published before the dispute, in hexadecimal.
        victim: The victim.
        suspect: The suspected model.
        independent: The judge's own models, known not to be stolen, by name.

    Raises:
        Rejected: The evidence does not show what it claims; the suspect was not queried.
        BadInput: The marks do not fit a model.
        WireError: A model stopped answering.
    """
    opening, key = evidence.details.opening, evidence.details.key
    if opening.root != root.lower():
        raise Rejected(f"the marks belong to the commitment {opening.root}, but {root} was published")
    others = evidence.details.others
    parameters, marks = counted(opening, others)
    _check_marks(parameters, marks, key)
    if victim.fingerprint not in (None, parameters.victim):
        raise Rejected(
            f"the victim's weights have SHA-256 {victim.fingerprint}, but the marks belong to {parameters.victim}"
        )
    claim = Claim(opening, independent, others=others)
    method.check(suspect.card, claim)
    check_fit(victim.oracle.card, parameters, marks)
    moved = _moved(parameters, marks, victim.activations)
    labels = victim.oracle.query(rows_of(marks)).labels
    same = labels == told_labels(marks)
    if same.mean() > MOST_OWN:
        raise Rejected(
            f"{same.sum()} of {len(marks)} marks are the victim's own answers, and mark nothing: expected at most "
            f"{MOST_OWN:.0%}"
        )
    doubtful = moved | (labels != np.array([mark.victim_label for mark in marks]))
    rng = np.random.default_rng(0)
    found = method.accuse(suspect, replace(method.prepare(claim, rng), doubtful=doubtful), rng)
    accounts, choices = len(opening.accounts), ways(opening, others)
    cautions = [
        CAUTION,
        *[CHOSEN.format(1 + len(others), accounts, choices)] * (choices > 1),
        *[UNSEEN] * (victim.fingerprint is None),
    ]
    return replace(found, details=replace(found.details, key=key), caution=" ".join(cautions))


def _check_marks(parameters: WatermarkParameters, marks: Sequence[Mark], key: str | None) -> None:
    """Raises :class:`Rejected` unless the committed key gives every mark and its label."""
    try:
        secret = bytes.fromhex(key or "")
    except ValueError:
        secret = b""
    if not secret:
        raise Rejected("the evidence does not reveal the key of the marks; run the owner's command with --open")
    keys = WatermarkKey(secret)
    if keys.commitment != parameters.key:
        raise Rejected(f"the revealed key does not match the commitment {parameters.key}")
    seen = set()
    for i, mark in enumerate(marks):
        form, point = mapped(parameters, mark)
        if not keys.marked(parameters.rate, form, [point]):
            raise Rejected(
                f"mark {i} is not given by the key at the rate {parameters.rate}: it was picked by hand"
            )
        if not 0 <= mark.victim_label < parameters.classes:
            raise Rejected(
                f"mark {i} has the victim's label {mark.victim_label}; expected 0 to {parameters.classes - 1}"
            )
        label = keys.false_label(form, point, mark.victim_label, parameters.classes)
        if label != mark.told_label:
            raise Rejected(f"mark {i} has the false label {mark.told_label}, but the key gives {label}")
        if (mark.form, mark.row) in seen:
            raise Rejected(f"mark {i} repeats the row of an earlier mark")
        seen.add((mark.form, mark.row))


def _moved(
    parameters: WatermarkParameters, marks: list[Mark], activations_of: Callable[[Array], Array] | None
) -> Array:
    """Returns which marks the victim maps to another cell within rounding error, ``(n,)`` bool.

    Raises:
        Rejected: A mark's cell differs by more than rounding error, or the cells cannot be computed.
    """
    if parameters.mapping == "exact":
        return np.zeros(len(marks), bool)
    if activations_of is None:
        raise Rejected(
            "these marks depend on the victim's penultimate layer: give the victim's folder, not its URL"
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
            raise Rejected(f"mark {i} does not have the cell to which the victim maps its row")
        moved[i] = named != cell
    return moved
