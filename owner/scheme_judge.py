"""The judge of schemes whose queries follow from a committed key: makes them again, and asks the suspect again.

An owner who may show any rows accuses anyone: he takes images on which all good models agree, errors that all
make, or models to compare with that are poor (Liu, Zhang, Szyller, Ren, Asokan, "False Claims against Model
Ownership Resolution", USENIX Security 2024). So the judge takes nothing of the evidence but that it is signed and
committed to. Victim and rows must be the committed ones, by their hashes; the settings are those of the
commitment; the errors, examples or triggers are made again by the owner's own method, from the committed seed; and
they are compared with models of the judge's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np

from owner.evidence import Evidence
from owner.judgement import Rejected
from owner.log.head import Head
from owner.ownership import Ownership
from owner.papers import CAUTION, checked_receipt
from owner.scheme_key import SchemeKey
from wire import BadInput, Oracle


@dataclass(frozen=True, eq=False)
class Case:
    """What a judge has before him.

    Attributes:
        evidence: The owner's evidence.
        heads: Heads of the owner's log, found where he published them.
        key: The owner's key, which he reveals to the judge.
        files: SHA-256 of the victim and the rows that the judge was given, by the names of the key's rule.
        since: When the suspect is known to have existed; None if that is unknown.
    """

    evidence: Evidence[Any]
    heads: Sequence[Head]
    key: SchemeKey
    files: Mapping[str, str]
    since: datetime | None = None

    def checked(self) -> SchemeKey:
        """Returns the key with its receipt; raises :class:`~owner.judgement.Rejected` if any paper is wrong."""
        receipt = checked_receipt(self.evidence, self.heads, self.since)
        if self.key.entry.root != receipt.entry.root:
            raise Rejected(
                f"the key belongs to the commitment {self.key.entry.root}, but the log has {receipt.entry.root}"
            )
        try:
            self.key.rule.check(self.evidence.method, self.files)
        except BadInput as error:
            raise Rejected(str(error)) from None
        return replace(self.key, receipt=receipt)


def judge(case: Case, method: Ownership[Any, Any], holdings: Any, suspect: Oracle) -> Evidence[Any]:
    """Checks an owner's evidence, makes his queries again, and queries all models again.

    Args:
        case: The evidence and the papers.
        method: The test; the settings that the key binds are taken from the key.
        holdings: What the test needs, with models of the judge's own, and a field ``committed``.
        suspect: The suspected model; it is asked only if nothing is refused.

    Raises:
        Rejected: The evidence does not show what it claims; the suspect was not queried.
        BadInput: A model does not take the rows, or there are too few independent ones.
        WireError: A model stopped answering.
    """
    key = case.checked()
    bound: Any = {name: value for name, value in key.rule.settings.items() if hasattr(method, name)}
    try:
        key.rule.check(case.evidence.method, {}, case.evidence.settings)
    except BadInput as error:
        raise Rejected(f"the evidence was made by other settings: {error}") from None
    test: Any = replace(method, **bound)  # type: ignore[type-var]
    test.check(suspect.card, held := replace(holdings, committed=key))
    rng = np.random.default_rng(0)  # what is drawn follows from the key
    found: Evidence[Any] = test.accuse(suspect, test.prepare(held, rng), rng)
    return replace(found, caution=f"{found.caution} {CAUTION}")
