"""The judge of a backdoor watermark: makes the opened triggers again from their seeds, and asks the suspect again.

An owner who may choose triggers and labels accuses anyone: he takes inputs on which all good models agree (Liu,
Zhang, Szyller, Ren, Asokan, "False Claims against Model Ownership Resolution", USENIX Security 2024). So nothing
but seeds is accepted, which a published log binds; they are opened in order; and the judge's own independent
models must not give the labels too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

import numpy as np

from owner.backdoor import BackdoorTest, Study, check_fit
from owner.commitment import Opened
from owner.evidence import Evidence
from owner.judgement import Rejected
from owner.log.head import Head
from owner.papers import CAUTION, checked_receipt
from owner.trigger_key import Rule, TriggersHeld, seed_of
from wire import BadInput, Oracle
from zoo.data.pool import Pool


def judge(
    method: BackdoorTest,
    evidence: Evidence[TriggersHeld],
    heads: Sequence[Head],
    natural: Pool | None,
    suspect: Oracle,
    independent: Mapping[str, Oracle],
    since: datetime | None = None,
) -> Evidence[TriggersHeld]:
    """Checks an owner's evidence, and queries all models again.

    Args:
        method: The judge's settings of the test.
        evidence: The owner's evidence.
        heads: Heads of the owner's log, found where he published them.
        natural: The natural images of patterns and pixels.
        suspect: The suspected model; it is asked only if nothing is refused.
        independent: The judge's own models, known not to be stolen, by name.
        since: When the suspect is known to have existed; None if that is unknown.

    Raises:
        Rejected: The evidence does not show what it claims; the suspect was not queried.
        BadInput: The natural images are not the committed ones, or a model does not take the triggers.
        WireError: A model stopped answering.
    """
    details, receipt = evidence.details, checked_receipt(evidence, heads, since)
    root = receipt.entry.root
    try:
        rule = Rule.read(receipt.rule.content)
        seeds = [seed_of(root, one.content) for one in details.openings]
    except BadInput as error:
        raise Rejected(str(error)) from None
    first = details.openings[0].index if details.openings else 0
    for place, one in enumerate(details.openings):
        if not _belongs(one, root) or one.size != rule.mark.triggers + 1:
            raise Rejected(f"opening {place} does not belong to the commitment {root}")
        if one.index != first + place or one.index == 0:
            raise Rejected(
                f"opening {place} is part {one.index} of the key: triggers are opened in order, none left out"
            )
    if not details.openings:
        raise Rejected("the evidence opens no trigger")
    rule.check_natural(natural)
    for card in (suspect.card, *(model.card for model in independent.values())):
        check_fit(card, rule.shape, rule.classes)
    study = Study(
        *rule.mark.all_triggers(seeds, rule.shape, rule.classes, natural),
        rule.mark.chance(rule.classes),
        root,
        receipt.rule,
        details.openings,
        rule.mark.triggers,
        receipt.commitments,
        independent,
        receipt,
    )
    found = method.accuse(suspect, study, np.random.default_rng(0))
    return replace(found, caution=f"{found.caution} {CAUTION}")


def _belongs(one: Opened, root: str) -> bool:
    try:
        return one.belongs_to(root)
    except ValueError:  # not hexadecimal
        return False
