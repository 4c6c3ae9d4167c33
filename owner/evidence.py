"""Evidence: what a proof leaves behind, complete enough to be read by someone who was not there."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import pydantic

from wire import BadInput
from zoo.exact_interval import exact_interval

T = TypeVar("T")

CAUTION = (
    "The p-value tests this suspect against no difference at all, not against models that never saw the private "
    "rows; those too can differ from zero (Szyller et al., TMLR 2023). Read it beside the rate at which "
    "independent models of the same distribution are accused."
)

Sides = dict[Literal["private", "unseen"], float]


@dataclass(frozen=True)
class Evidence:
    """What the owner found about one suspect.

    Attributes:
        method: Name of the proof.
        verdict: "accused" if the p-value is below alpha, else "inconclusive".
        alpha: Level of the test.
        p_value: One-sided: how likely so large a statistic is if both sides' scores have the same mean.
        statistic: Welch's t; greater than zero if private images score as better known than unseen ones.
        degrees_of_freedom: Of Welch's t, by Welch and Satterthwaite.
        delta_mu: Effect size: mean score of the unseen images less that of the private ones, from -2 to 2.
        interval: The 95 % confidence interval of ``delta_mu``.
        samples_exposed: Private images that the suspect was shown.
        suspect_queries: Rows asked of the suspect.
        victim_queries: Rows asked of the victim for this evidence.
        victim_queries_before: Rows asked of the victim earlier, whose answers were used again here.
        suspect_model: Name of the suspect's model.
        victim_model: Name of the victim's model.
        suspect_walks: Mean distance walked on the suspect, by noise and side, in the model's units.
        victim_walks: The same on the victim, for the images that fitted the regressor.
        private_scores: The suspect's scores of the held-out private images.
        unseen_scores: The suspect's scores of the held-out unseen images.
        private_sha256: Fingerprint of the private pool, of which the seed draws the images.
        unseen_sha256: Fingerprint of the unseen pool.
        settings: The method's hyper-parameters.
        seed: Seed of all that was drawn.
        suspect_url: Where the suspect was reached; empty if in process.
        victim_url: Where the victim was reached; empty if in process.
        caution: How far the p-value goes.
    """

    method: str
    verdict: Literal["accused", "inconclusive"]
    alpha: float
    p_value: float
    statistic: float
    degrees_of_freedom: float
    delta_mu: float
    interval: tuple[float, float]
    samples_exposed: int
    suspect_queries: int
    victim_queries: int
    victim_queries_before: int
    suspect_model: str
    victim_model: str
    suspect_walks: dict[str, Sides]
    victim_walks: dict[str, Sides]
    private_scores: tuple[float, ...]
    unseen_scores: tuple[float, ...]
    private_sha256: str
    unseen_sha256: str
    settings: dict[str, int | float]
    seed: int
    suspect_url: str = ""
    victim_url: str = ""
    caution: str = CAUTION

    def save(self, path: Path) -> None:
        """Writes the evidence as JSON."""
        path.write_text(json.dumps(dataclasses.asdict(self), indent=2) + "\n", encoding="utf-8")

    @staticmethod
    def load(path: Path) -> Evidence:
        """Reads evidence, or raises :class:`~wire.BadInput` saying what is wrong with the file."""
        return read(Evidence, path)


def read(kind: type[T], path: Path) -> T:
    """Reads evidence of a kind, or raises :class:`~wire.BadInput` saying what is wrong with the file."""
    try:
        return pydantic.TypeAdapter(kind).validate_json(path.read_bytes())
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}; expected evidence that the owner's command wrote") from None
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise BadInput(f"{path}: this is no evidence: {where} {first['msg']}".replace("  ", " ")) from None


def expect_writable(path: Path) -> None:
    """Raises :class:`BadInput` before anything is asked, rather than an error after all is paid."""
    if path.is_dir():
        raise BadInput(f"{path} is a folder, but must be a file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{path} cannot be written: {error.strerror}") from None
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise BadInput(f"{path} cannot be written: permission denied")


class Accusations(NamedTuple):
    """How many of n suspects were accused, with the exact 95 % interval of the rate."""

    accused: int
    suspects: int
    low: float
    high: float


def accusations(evidences: Sequence[Evidence]) -> Accusations:
    """Counts the accused among at least one suspect; of independent models this is the false accusation rate.

    The interval is that of Clopper and Pearson (Biometrika 1934).
    """
    accused = sum(evidence.verdict == "accused" for evidence in evidences)
    _, low, high = exact_interval(accused, len(evidences))
    return Accusations(accused, len(evidences), low, high)
