"""The judge of radioactive text: asks for text again, and for more than the mark.

A mark in a suspect's texts does not tell a thief from a person who is framed: a third party's model is tuned on
texts of the victim's, or a student of the victim's is put in his place (DITTO, EACL 2026). So the judge accuses
only if three things speak: the mark, in texts that he asked for himself, with a key that follows from the owner's
commitment; the commitment, older than the suspect; and the suspect's nearness to the victim, beyond that of
*controls*, models of the judge's own that learnt elsewhere and were then tuned on marked texts, as a spoofer would
do it. Where the mark alone speaks, the finding is "spoofed or inconclusive".

Source: this project; the controls are what the spoofing attack makes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import ClassVar

import numpy as np

from owner.evidence import Evidence
from owner.judgement import Rejected
from owner.log.head import Head
from owner.one_more import LEAST, beyond
from owner.papers import CAUTION, checked_receipt
from owner.radioactive_text import MarkedText, RadioactiveText, TextMark, described
from owner.text_nearness import log_likelihoods, nearness
from wire import Array, BadInput
from wire.completions import CompletionOracle

LEVEL = 0.01  # of the comparison with the controls
SPOOFED = "spoofed or inconclusive"


@dataclass(frozen=True, eq=False)
class TextCase:
    """What a judge has before him.

    Attributes:
        evidence: The owner's evidence.
        heads: Heads of the owner's log, found where he published them.
        held: The owner's key, which he reveals to the judge, and the tokens.
        since: When the suspect is known to have existed; None if that is unknown.
    """

    evidence: Evidence[TextMark]
    heads: Sequence[Head]
    held: MarkedText
    since: datetime | None = None

    def checked(self) -> MarkedText:
        """Returns the key with its receipt; raises :class:`~owner.judgement.Rejected` if any paper is wrong."""
        receipt, key = checked_receipt(self.evidence, self.heads, self.since), self.held.key
        if key.entry.root != receipt.entry.root:
            raise Rejected(
                f"the key belongs to the commitment {key.entry.root}, but the log has {receipt.entry.root}"
            )
        try:
            self.held.check()
            key.rule.check(self.evidence.method, {}, self.evidence.settings)
        except BadInput as error:
            raise Rejected(str(error)) from None
        return replace(self.held, key=replace(key, receipt=receipt))


@dataclass(frozen=True)
class TextFindings:
    """What a judge found about radioactive text.

    Attributes:
        finding: "taken from the victim", "no mark", or "spoofed or inconclusive".
        why: What speaks for it.
        mark: The mark, in texts that the judge asked for.
        p_mark: Its p-value, times the number of commitments and tries.
        nearness: The suspect's nearness to the victim; None if it was not compared.
        controls: The nearness of each control.
        p_nearness: The p-value of the comparison with the controls; None without it.
    """

    unit: ClassVar[str] = "tokens"

    finding: str
    why: str
    mark: TextMark
    p_mark: float
    nearness: float | None = None
    controls: tuple[float, ...] = ()
    p_nearness: float | None = None

    def describe(self, verdict: str) -> list[str]:
        """Returns the measurements, as lines."""
        near = "the suspect was not compared with controls"
        if self.nearness is not None and self.p_nearness is not None:
            others = ", ".join(f"{each:.3f}" for each in self.controls)
            near = f"nearness to the victim {self.nearness:.3f}; controls {others}; p = {self.p_nearness:.3g}"
        return [f"finding: {self.finding}: {self.why}", *self.mark.describe(verdict)[:2], near]


def judge(
    case: TextCase,
    method: RadioactiveText,
    suspect: CompletionOracle,
    rng: np.random.Generator,
    *,
    texts: Sequence[str] = (),
    victim: Array | None = None,
    controls: Sequence[Array] = (),
) -> Evidence[TextFindings]:
    """Checks an owner's evidence, asks the suspect for text again, and compares it with controls.

    Args:
        case: The evidence and the papers.
        method: The judge's settings of the test; ``gamma`` is that of the key.
        suspect: The suspected model; it is asked only if nothing is refused.
        rng: Draws the seeds of the texts.
        texts: Texts by which the models are compared.
        victim: The log-likelihoods that the owner's model gives them, ``(n,)``; None without the model.
        controls: Those of the judge's own models, which learnt elsewhere and were tuned on marked texts.

    Raises:
        Rejected: The evidence does not show what it claims; the suspect was not queried.
        BadInput: The suspect told no two tokens, or there are too few texts.
    """
    held = case.checked()
    method = replace(method, gamma=held.key.rule.settings["gamma"])
    before, found = suspect.spent.total, method.found(suspect, held, rng)
    receipt = held.key.receipt
    assert receipt is not None
    p_mark = min(1.0, method.tries * receipt.commitments * found.p)
    details = _weighed(
        TextFindings("", "", described(found, receipt.commitments), p_mark), method.alpha, case.since is not None
    )
    if not details.finding:
        details = _compared(details, suspect, texts, victim, controls)
    near = 1.0 if details.p_nearness is None else details.p_nearness
    return Evidence(
        method=case.evidence.method,
        verdict="inconclusive" if details.finding in ("no mark", SPOOFED) else "accused",
        p_value=max(p_mark, near),
        alpha=LEVEL,
        suspect=suspect.model,
        suspect_queries=suspect.spent.total - before,
        settings=case.evidence.settings,
        caution=f"The larger p-value counts; the controls are to be like spoofers' models. {CAUTION}",
        details=details,
        receipt=receipt,
    )


def _weighed(found: TextFindings, alpha: float, dated: bool) -> TextFindings:
    if found.p_mark > alpha:
        return replace(found, finding="no mark", why=f"p = {found.p_mark:.3g} is above {alpha:.3g}")
    if not dated:
        return replace(found, finding=SPOOFED, why="nobody knows whether the commitment is older than the suspect")
    return found


def _compared(
    found: TextFindings,
    suspect: CompletionOracle,
    texts: Sequence[str],
    victim: Array | None,
    controls: Sequence[Array],
) -> TextFindings:
    """Compares the suspect's nearness to the victim with that of controls."""
    if victim is None or len(controls) < LEAST:
        why = f"the mark alone speaks: it takes the victim and {LEAST} controls to tell a thief from the framed"
        return replace(found, finding=SPOOFED, why=why)
    if (own := log_likelihoods(suspect, texts)) is None:
        why = f"the mark alone speaks: the suspect does not echo likelihoods ({suspect.ended})"
        return replace(found, finding=SPOOFED, why=why)
    # Each is freed of as many others: the suspect, of all controls but one at a time.
    rest = [[each for i, each in enumerate(controls) if i != left] for left in range(len(controls))]
    near = float(np.mean([nearness(own, victim, others) for others in rest]))
    theirs = tuple(nearness(one, victim, others) for one, others in zip(controls, rest, strict=True))
    p = beyond(near, theirs).p
    found = replace(found, nearness=near, controls=theirs, p_nearness=p)
    if p > LEVEL:
        why = "it is no nearer to the victim than models that were made to carry the mark"
        return replace(found, finding=SPOOFED, why=why)
    return replace(found, finding="taken from the victim", why="mark, date and nearness to the victim speak")
