"""The judge of radioactive data: marks the images again, and compares the suspect with models of the judge's own.

An owner who may show any pairs accuses anyone: he moves images to where all good models are surer of their labels
(Liu, Zhang, Szyller, Ren, Asokan, "False Claims against Model Ownership Resolution", USENIX Security 2024). So the
marked images must follow from the committed secret, and stand out among those of wrong keys, whose luck the
judge's own models know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import numpy as np

from owner.evidence import Evidence
from owner.judgement import Rejected
from owner.log.head import Head
from owner.radioactive import Pairs, RadioactiveTest, files_of, marked_by
from owner.scheme_judge import Case
from owner.scheme_judge import judge as judge_scheme
from owner.scheme_key import SchemeKey
from owner.surprise import Surprise
from wire import Oracle
from zoo.data.pool import Pool
from zoo.network import Network

NEAR, MOST = 2.5 / 255, 1e-3  # another processor rounds a few pixels otherwise


def judge(
    method: RadioactiveTest,
    evidence: Evidence[Surprise],
    heads: Sequence[Head],
    key: SchemeKey,
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
    vanilla, marked = images
    case = Case(evidence, heads, key, files_of(vanilla, marker), since)
    case.checked()
    again = marked_by(key, vanilla, marker, key.seed)
    if again.x.shape != marked.x.shape:
        raise Rejected(f"there are {len(again)} originals, but {len(marked)} marked images")
    off = float((np.abs(again.x - marked.x) > NEAR).mean())
    if off > MOST:
        raise Rejected(f"{off:.1%} of the pixels of the marked images do not follow from the key")
    return judge_scheme(case, method, Pairs(vanilla, again, independent, key, marker), suspect)
