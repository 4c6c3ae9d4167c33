"""Attacks on a served model, by someone who has only a URL and a key."""

from typing import TYPE_CHECKING, Any

import cli  # noqa: F401  # sets OpenMP's wait policy before anything loads torch
from cli.registry import Registry

if TYPE_CHECKING:
    from attacker.extraction.extraction import Extraction
    from attacker.inversion.inversion import Inversion
    from attacker.membership.membership import Membership

EXTRACTION: "Registry[Extraction]" = Registry(
    {
        "knockoff": "attacker.extraction.knockoff:Knockoff",
        "random-words": "attacker.extraction.random_words:RandomWords",
        "jbda": "attacker.extraction.jbda:Jbda",
        "t-rnd": "attacker.extraction.t_rnd:TRnd",
        "mixmatch": "attacker.extraction.mixmatch:MixMatch",
        "active-thief": "attacker.extraction.active_thief:ActiveThief",
        "encoder": "attacker.extraction.encoder:Encoder",
        "copycat": "attacker.extraction.copycat:Copycat",
        "equation-solving": "attacker.extraction.equation_solving:EquationSolving",
        "data-free": "attacker.extraction.data_free:DataFree",
        "dfms-hl": "attacker.extraction.dfms_hl:DfmsHl",
        "cryptanalytic": "attacker.extraction.cryptanalytic:Cryptanalytic",
        "hard-label": "attacker.extraction.hard_label:HardLabel",
        "relu": "attacker.extraction.relu:Relu",
        "lowd-meek": "attacker.extraction.lowd_meek:LowdMeek",
        "path-finding": "attacker.extraction.path_finding:PathFinding",
        "tra": "attacker.extraction.tra:Tra",
        "retraining": "attacker.extraction.retraining:Retraining",
        "informed": "attacker.extraction.informed:Informed",
        "line-search": "attacker.extraction.line_search:LineSearch",
    }
)
"""Extraction attacks, which return a surrogate, by the name of their command."""

MEMBERSHIP: "Registry[Membership]" = Registry(
    {
        "blind-walk": "attacker.membership.blind_walk:BlindWalk",
        "confidence": "attacker.membership.confidence:Confidence",
        "gap": "attacker.membership.gap:Gap",
        "imia": "attacker.membership.imia:Imia",
        "label-only": "attacker.membership.label_only:LabelOnly",
        "lira": "attacker.membership.lira:Lira",
        "quantile": "attacker.membership.quantile:Quantile",
        "rmia": "attacker.membership.rmia:Rmia",
        "shadow": "attacker.membership.shadow:Shadow",
        "threshold": "attacker.membership.threshold:Threshold",
        "union": "attacker.membership.union:Union",
    }
)
"""Membership attacks, which return a score for each candidate, by the name of their command."""

INVERSION: "Registry[Inversion]" = Registry(
    {"evolved": "attacker.inversion.evolved:Evolved", "mi-face": "attacker.inversion.mi_face:MiFace"}
)
"""Inversion attacks, which return a row that stands for a class, by the name of their command."""

LANGUAGE: "Registry[Any]" = Registry(
    {
        "output-layer": "attacker.language.output_layer:OutputLayer",
        "distillation": "attacker.language.distillation:Distillation",
        "imitation": "attacker.language.imitation:Imitation",
        "exposure": "attacker.language.exposure:Exposure",
        "secret-search": "attacker.language.secret_search:SecretSearch",
    }
)
"""Attacks on language models, through :class:`~wire.completions.CompletionOracle`, by the name of their command.

An attack has the verb ``steal(oracle, *held, rng)``.
"""

HELD: "Registry[Any]" = Registry(
    {
        "distillation": "attacker.language.held:Vocabulary",
        "imitation": "attacker.language.held:Sentences",
        "exposure": "attacker.language.held:Suspected",
        "secret-search": "attacker.language.held:Beginnings",
    }
)
"""What attacks on language models need beside a key: dataclasses of flags, whose ``read`` returns ``held``."""

ATTACKS: "Registry[Extraction | Membership | Inversion]" = Registry(
    {**EXTRACTION.targets, **MEMBERSHIP.targets, **INVERSION.targets}
)


def __getattr__(name: str) -> Any:
    """Imports an attack by its class name, so that ``from attacker import Knockoff`` works."""
    try:
        return ATTACKS.named(name)
    except AttributeError:
        return LANGUAGE.named(name)
