"""What every judge checks first: that evidence is signed, committed to, and older than the suspect."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from owner.commitment import Receipt
from owner.evidence import Evidence
from owner.judgement import Rejected
from owner.log.head import Head, is_signed
from wire import BadInput

CAUTION = "The date of the commitment is by the owner's clock: check when its head was published."


def signed_receipt(evidence: Evidence[Any]) -> Receipt:
    """Returns the receipt of evidence; raises :class:`~owner.judgement.Rejected` unless it is signed."""
    receipt = evidence.receipt
    if receipt is None:
        raise Rejected(
            "the evidence has no receipt of a log: run the owner's test with --log (and --mark, for a key)"
        )
    if not is_signed(receipt.head.key, evidence.signature, evidence.content):
        raise Rejected("the evidence is not signed by the key of the log, or was changed afterwards")
    return receipt


def checked_receipt(evidence: Evidence[Any], heads: Sequence[Head], since: datetime | None) -> Receipt:
    """Returns the receipt of evidence, checked against the published heads.

    Args:
        evidence: The owner's evidence.
        heads: Heads of the owner's log, found where he published them.
        since: When the suspect is known to have existed; None if that is unknown.

    Raises:
        Rejected: The evidence is not signed, or not committed to before the suspect existed.
    """
    receipt = signed_receipt(evidence)
    try:
        receipt.check()
        when = receipt.check_published(heads).time
    except BadInput as error:
        raise Rejected(str(error)) from None
    if since is not None and when >= since:
        raise Rejected(f"the commitment is of {when:%Y-%m-%d %H:%M} UTC, no older than the suspect")
    return receipt
