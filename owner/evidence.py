"""Evidence: what a proof leaves behind, complete enough for a reader who was not there."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, NamedTuple, Protocol, TypeVar

import pydantic

from defenses.watermarks.ledger.commitment import problem
from wire import BadInput
from zoo.exact_interval import exact_interval


class Details(Protocol):
    """The numbers of one method; a frozen dataclass."""

    def describe(self, verdict: str) -> list[str]:
        """Returns, line by line, what was measured and what to do next."""
        ...


D = TypeVar("D")


@dataclass(frozen=True)
class Evidence(Generic[D]):
    """What the owner, or a judge, found about one suspect.

    Attributes:
        method: Name of the method.
        verdict: "accused" or "inconclusive"; there is no verdict of innocence.
        p_value: How likely evidence as strong as this is if the suspect was not derived from the victim.
        alpha: Level of the test: an accusation has a p-value below it.
        suspect: Name of the suspect's model.
        suspect_queries: Rows asked of the suspect.
        settings: The method's hyper-parameters.
        caution: What the p-value does not say.
        details: The method's own numbers.
        suspect_url: Where the suspect was reached; empty if in process.
        victim_url: Where the victim was reached; empty if in process, or if it was not asked.
    """

    method: str
    verdict: Literal["accused", "inconclusive"]
    p_value: float
    alpha: float
    suspect: str
    suspect_queries: int
    settings: dict[str, int | float]
    caution: str
    details: D
    suspect_url: str = ""
    victim_url: str = ""

    def save(self, path: Path) -> None:
        """Writes the evidence as JSON."""
        kind: Any = Evidence[type(self.details)]  # type: ignore[misc]
        path.write_bytes(pydantic.TypeAdapter(kind).dump_json(self, indent=2) + b"\n")

    def flat(self) -> dict[str, Any]:
        """Returns the fields by name, with the details beside the others."""
        fields = dataclasses.asdict(self)
        details = fields.pop("details")
        return {**fields, **details}


def load(path: Path, details: type[D]) -> Evidence[D]:
    """Reads the evidence of a method with such details.

    Raises:
        BadInput: The file cannot be read, or is something else.
    """
    try:
        return pydantic.TypeAdapter(Evidence[details]).validate_json(path.read_bytes())  # type: ignore[valid-type]
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}; expected a file of evidence") from None
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "missing" and "verdict" in first["input"] and "details" not in first["input"]:
            raise BadInput(f"{path}: an earlier version wrote this evidence: run the proof again") from None
        raise BadInput(f"{path}: not evidence of this method: {problem(error)}") from None


def describe(evidence: Evidence[Any]) -> str:
    """Says in a few lines what was found and what to do next."""
    where = f" at {evidence.suspect_url}" if evidence.suspect_url else ""
    lines = [
        f"{evidence.suspect}{where}: {evidence.verdict} at alpha {evidence.alpha:.3g}, p = {evidence.p_value:.3g}",
        f"asked the suspect {evidence.suspect_queries:,} rows",
        *evidence.details.describe(evidence.verdict),
        evidence.caution,
    ]
    return "\n  ".join(lines)


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
    """How many suspects were accused, with the exact 95 % interval of the rate."""

    accused: int
    suspects: int
    low: float
    high: float


def accusations(evidences: Sequence[Evidence[Any]]) -> Accusations:
    """Counts the accused among at least one suspect; of independent models this is the false accusation rate."""
    accused = sum(evidence.verdict == "accused" for evidence in evidences)
    _, low, high = exact_interval(accused, len(evidences))
    return Accusations(accused, len(evidences), low, high)
