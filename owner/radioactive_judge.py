"""The judge of radioactive data: marks the images again, and compares the suspect with models of the judge's own.

An owner who may show any pairs accuses anyone: he moves images to where all good models are surer of their labels
(Liu, Zhang, Szyller, Ren, Asokan, "False Claims against Model Ownership Resolution", USENIX Security 2024). So the
marked images must follow from the committed secret, and the judge's own models must not find them as easy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

import numpy as np

from owner.evidence import Evidence
from owner.judgement import Rejected
from owner.log.head import Head, is_signed
from owner.radioactive import Pairs, RadioactiveTest, Surprise
from owner.radioactive_key import RadioactiveKey
from wire import BadInput, Oracle
from zoo.data.pool import Pool
from zoo.network import Network

NEAR, MOST = 2.5 / 255, 1e-3  # another processor rounds a few pixels otherwise
CAUTION = "The date of the commitment is by the owner's clock: check when its head was published."


def judge(
    method: RadioactiveTest,
    evidence: Evidence[Surprise],
    heads: Sequence[Head],
    key: RadioactiveKey,
    images: tuple[Pool, Pool],
    marker: Network,
    suspect: Oracle,
    independent: Mapping[str, Oracle],
    since: datetime | None = None,
) -> Evidence[Surprise]:
    """Checks an owner's evidence, and queries all models again.

    Args:
        method: The judge's settings of the test.
        evidence: The owner's evidence.
        heads: Heads of the owner's log, found where he published them.
        key: The owner's key, which he reveals to the judge.
        images: His original images, and the same with the mark.
        marker: The network whose features were moved.
        suspect: The suspected model; it is asked only if nothing is refused.
        independent: The judge's own models, known not to be trained on the marked images, by name.
        since: When the suspect is known to have existed; None if that is unknown.

    Raises:
        Rejected: The evidence does not show what it claims; the suspect was not queried.
        BadInput: A model does not take the images, or there are too few independent ones.
        WireError: A model stopped answering.
    """
    receipt = evidence.receipt
    if receipt is None:
        raise Rejected("the evidence has no receipt of a log: run the owner's test with --mark and --log")
    if not is_signed(receipt.head.key, evidence.signature, evidence.content):
        raise Rejected("the evidence is not signed by the key of the log, or was changed afterwards")
    try:
        receipt.check()
        when = receipt.check_published(heads).time
    except BadInput as error:
        raise Rejected(str(error)) from None
    if since is not None and when >= since:
        raise Rejected(f"the commitment is of {when:%Y-%m-%d %H:%M} UTC, no older than the suspect")
    if key.entry.root != receipt.entry.root:
        raise Rejected(f"the key belongs to the commitment {key.entry.root}, but the log has {receipt.entry.root}")
    vanilla, marked = images
    try:
        again = key.marked(vanilla, marker)
    except BadInput as error:
        raise Rejected(str(error)) from None
    if again.x.shape != marked.x.shape:
        raise Rejected(f"there are {len(again)} originals, but {len(marked)} marked images")
    off = float((np.abs(again.x - marked.x) > NEAR).mean())
    if off > MOST:
        raise Rejected(f"{off:.1%} of the pixels of the marked images do not follow from the key")
    holdings = Pairs(vanilla, again, independent, replace(key, receipt=receipt))
    method.check(suspect.card, holdings)
    study = method.prepare(holdings, np.random.default_rng(0))
    found = method.accuse(suspect, study, np.random.default_rng(0))
    return replace(found, caution=f"{found.caution} {CAUTION}")
