"""Defences of a served model, usable with or without our server."""

from defenses.admission.admission import Admission
from defenses.admission.limit import Rule
from defenses.admission.price import Price
from defenses.admission.quota import Quota
from defenses.admission.rate_limit import RateLimit
from defenses.answers.gaussian_noise import GaussianNoise
from defenses.answers.label_flips import LabelFlips
from defenses.answers.label_only import LabelOnly
from defenses.answers.laplace_noise import LaplaceNoise
from defenses.answers.reverse_sigmoid import ReverseSigmoid
from defenses.answers.rounding import Rounding
from defenses.answers.temperature import Temperature
from defenses.answers.top_k import TopK
from defenses.defense import Defense, Handler, Pointless, Remembering, compose, disclosed
from defenses.detectors.hoda import Hoda
from defenses.detectors.ood import Ood, OodFilter
from defenses.detectors.prada import Prada
from defenses.detectors.sybils import Sybils
from defenses.monitoring.monitor import Across, Detector, Watch
from defenses.reactions.reaction import Reacting
from defenses.watermarks.dawn import Dawn

DEFENSES: dict[str, type[Rule] | type[Defense]] = {
    "rate_limit": RateLimit,
    "quota": Quota,
    "label_only": LabelOnly,
    "top_k": TopK,
    "rounding": Rounding,
    "temperature": Temperature,
    "gaussian_noise": GaussianNoise,
    "laplace_noise": LaplaceNoise,
    "reverse_sigmoid": ReverseSigmoid,
    "label_flips": LabelFlips,
    "ood_filter": OodFilter,
    "dawn": Dawn,
}

DETECTORS: dict[str, type[Detector | Across]] = {"prada": Prada, "hoda": Hoda, "ood": Ood, "sybils": Sybils}
"""Detectors, each of which a :class:`Watch` lets watch."""

__all__ = [
    "DEFENSES",
    "DETECTORS",
    "Across",
    "Admission",
    "Dawn",
    "Defense",
    "Detector",
    "GaussianNoise",
    "Handler",
    "Hoda",
    "LabelFlips",
    "LabelOnly",
    "LaplaceNoise",
    "Ood",
    "OodFilter",
    "Pointless",
    "Price",
    "Quota",
    "RateLimit",
    "Reacting",
    "Remembering",
    "ReverseSigmoid",
    "Rounding",
    "Rule",
    "Sybils",
    "Temperature",
    "TopK",
    "Watch",
    "compose",
    "disclosed",
]
