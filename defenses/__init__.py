"""Defences of a served model, for use with or without our server."""

from defenses.admission.admission import Admission
from defenses.admission.limit import Limit
from defenses.admission.price import Price
from defenses.admission.quota import Quota
from defenses.admission.rate_limit import RateLimit
from defenses.answers.b4b import B4b
from defenses.answers.gaussian_noise import GaussianNoise
from defenses.answers.label_flips import LabelFlips
from defenses.answers.label_only import LabelOnly
from defenses.answers.laplace_noise import LaplaceNoise
from defenses.answers.logits import (
    BiasXorLogprobs,
    LogitNoise,
    LogprobRounding,
    NoEcho,
    NoLogprobs,
    TemperatureFloor,
    TopLogprobs,
)
from defenses.answers.mad import Mad
from defenses.answers.memguard import MemGuard
from defenses.answers.misinformation import Misinformation
from defenses.answers.modelguard_s import ModelguardS
from defenses.answers.modelguard_w import ModelguardW
from defenses.answers.ood_filter import OodFilter
from defenses.answers.reverse_sigmoid import ReverseSigmoid
from defenses.answers.rounding import Rounding
from defenses.answers.temperature import Temperature
from defenses.answers.top_k import TopK
from defenses.answers.withhold_leaves import WithholdLeaves
from defenses.defense import (
    Defense,
    Handler,
    Layer,
    Redundant,
    RowWise,
    Stage,
    Starting,
    check_order,
    compose,
    compose_row_wise,
    disclosed,
    seen_through,
)
from defenses.detectors.campaign import Campaign
from defenses.detectors.detector import CrossAccountDetector, Detector
from defenses.detectors.hoda import Hoda
from defenses.detectors.mmd import Mmd
from defenses.detectors.ood import Ood
from defenses.detectors.prada import Prada
from defenses.detectors.sybils import Sybils
from defenses.generation import Completion, Generate, GenerationDefense, GenerationSite, Offer, Prompt
from defenses.monitoring.monitor import Consequence, Monitor, Monitored
from defenses.reactions.alarm import StandingAlarm
from defenses.reactions.reaction import Reaction
from defenses.site import Site
from defenses.watermarks.dawn import Dawn
from defenses.watermarks.green_list import GreenList
from defenses.watermarks.honeytrace import Honeytrace

DEFENSES: dict[str, type[Limit] | type[Defense]] = {
    "rate_limit": RateLimit,
    "quota": Quota,
    "label_only": LabelOnly,
    "top_k": TopK,
    "withhold_leaves": WithholdLeaves,
    "rounding": Rounding,
    "temperature": Temperature,
    "gaussian_noise": GaussianNoise,
    "laplace_noise": LaplaceNoise,
    "reverse_sigmoid": ReverseSigmoid,
    "label_flips": LabelFlips,
    "memguard": MemGuard,
    "ood_filter": OodFilter,
    "misinformation": Misinformation,
    "mad": Mad,
    "modelguard_w": ModelguardW,
    "modelguard_s": ModelguardS,
    "b4b": B4b,
    "dawn": Dawn,
    "honeytrace": Honeytrace,
}

DETECTORS: dict[str, type[Detector | CrossAccountDetector]] = {
    "prada": Prada,
    "hoda": Hoda,
    "ood": Ood,
    "sybils": Sybils,
    "mmd": Mmd,
    "campaign": Campaign,
}
"""Detectors; :class:`Monitored` turns one into a defence."""

GENERATION: dict[str, type[GenerationDefense]] = {
    "top_logprobs": TopLogprobs,
    "no_logprobs": NoLogprobs,
    "bias_xor_logprobs": BiasXorLogprobs,
    "no_echo": NoEcho,
    "logprob_rounding": LogprobRounding,
    "logit_noise": LogitNoise,
    "temperature_floor": TemperatureFloor,
    "green_list": GreenList,
}
"""Defences of language models."""

__all__ = [
    "DEFENSES",
    "DETECTORS",
    "GENERATION",
    "Admission",
    "B4b",
    "BiasXorLogprobs",
    "Campaign",
    "Completion",
    "Consequence",
    "CrossAccountDetector",
    "Dawn",
    "Defense",
    "Detector",
    "GaussianNoise",
    "Generate",
    "GenerationDefense",
    "GenerationSite",
    "GreenList",
    "Handler",
    "Hoda",
    "Honeytrace",
    "LabelFlips",
    "LabelOnly",
    "LaplaceNoise",
    "Layer",
    "Limit",
    "LogitNoise",
    "LogprobRounding",
    "Mad",
    "MemGuard",
    "Misinformation",
    "Mmd",
    "ModelguardS",
    "ModelguardW",
    "Monitor",
    "Monitored",
    "NoEcho",
    "NoLogprobs",
    "Offer",
    "Ood",
    "OodFilter",
    "Prada",
    "Price",
    "Prompt",
    "Quota",
    "RateLimit",
    "Reaction",
    "Redundant",
    "ReverseSigmoid",
    "Rounding",
    "RowWise",
    "Site",
    "Stage",
    "StandingAlarm",
    "Starting",
    "Sybils",
    "Temperature",
    "TemperatureFloor",
    "TopK",
    "TopLogprobs",
    "WithholdLeaves",
    "check_order",
    "compose",
    "compose_row_wise",
    "disclosed",
    "seen_through",
]
