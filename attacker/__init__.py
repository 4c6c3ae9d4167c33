"""The attackers: whoever has a URL and a key, and wants the model or what it was trained on."""

import wire.openmp  # noqa: F401
from attacker.asking import NothingAnswered
from attacker.extraction.extraction import Extraction
from attacker.extraction.jbda import Jbda
from attacker.extraction.knockoff import Knockoff
from attacker.extraction.line_search import LineSearch
from attacker.extraction.t_rnd import TRnd
from attacker.membership.confidence import Confidence
from attacker.membership.gap import Gap
from attacker.membership.membership import Membership, NotApplicable
from attacker.membership.shadow import Shadow

EXTRACTION: dict[str, type[Extraction]] = {
    "knockoff": Knockoff,
    "jbda": Jbda,
    "t-rnd": TRnd,
    "line-search": LineSearch,
}
MEMBERSHIP: dict[str, type[Membership]] = {"confidence": Confidence, "gap": Gap, "shadow": Shadow}
ATTACKS: dict[str, type[Extraction] | type[Membership]] = {**EXTRACTION, **MEMBERSHIP}

__all__ = [
    "ATTACKS",
    "EXTRACTION",
    "MEMBERSHIP",
    "Confidence",
    "Extraction",
    "Gap",
    "Jbda",
    "Knockoff",
    "LineSearch",
    "Membership",
    "NotApplicable",
    "NothingAnswered",
    "Shadow",
    "TRnd",
]
