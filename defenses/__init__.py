"""Defences of a served model, usable with or without our server."""

from defenses.admission.admission import Admission
from defenses.admission.price import Price
from defenses.admission.quota import Quota
from defenses.admission.rate_limit import RateLimit
from defenses.admission.rule import Rule
from defenses.answers.gaussian_noise import GaussianNoise
from defenses.answers.granularity import Granularity
from defenses.defense import Defense, Handler, compose, disclosed

DEFENSES: dict[str, type[Rule] | type[Defense]] = {
    "rate_limit": RateLimit,
    "quota": Quota,
    "granularity": Granularity,
    "gaussian_noise": GaussianNoise,
}

__all__ = [
    "DEFENSES",
    "Admission",
    "Defense",
    "GaussianNoise",
    "Granularity",
    "Handler",
    "Price",
    "Quota",
    "RateLimit",
    "Rule",
    "compose",
    "disclosed",
]
