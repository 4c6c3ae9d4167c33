"""Evidence: the result of a proof, with everything needed to check it later."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, NamedTuple, Protocol, TypeVar

import pydantic
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from defenses.watermarks.ledger.commitment import problem
from owner.commitment import Receipt
from wire import BadInput
from wire.files import read_bytes
from zoo.exact_interval import exact_interval


class Details(Protocol):
    """The results of one method; a frozen dataclass."""

    def describe(self, verdict: str) -> list[str]:
        """Returns the measurements and the next step, as lines."""
        ...


D = TypeVar("D")
MOST = 256 * 2**20  # bytes of a file of evidence, or of an account's marks


@dataclass(frozen=True)
class Evidence(Generic[D]):
    """The findings of an owner, or of a judge, about one suspect.

    Attributes:
        method: Name of the method.
        verdict: "accused" or "inconclusive"; there is no verdict of innocence.
        p_value: Probability of evidence at least this strong if the suspect was not derived from the victim.
        alpha: Significance level; a p-value below it accuses.
        suspect: Name of the suspect's model.
        suspect_queries: Number of rows, or of tokens, queried from the suspect.
        settings: The method's hyper-parameters.
        caution: Limits of the p-value.
        details: The method's own results.
        suspect_url: The suspect's URL; empty if in process.
        victim_url: The victim's URL; empty if in process, or if the victim was not queried.
        suspect_money: What the suspect's server charged, in micro-cents; None if it names no prices.
        receipt: The proof that a published log has the owner's commitment; None without one.
        signature: The signature of all of this by the key of the log, in hexadecimal; empty without one.
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
    suspect_money: int | None = None
    receipt: Receipt | None = None
    signature: str = ""

    def to_json(self) -> bytes:
        """Writes the evidence as JSON."""
        kind: Any = Evidence[type(self.details)]  # type: ignore[misc]
        return pydantic.TypeAdapter(kind).dump_json(self, indent=2) + b"\n"

    def save(self, path: Path) -> None:
        """Writes the evidence to a file."""
        path.write_bytes(self.to_json())

    @property
    def content(self) -> bytes:
        """The signed bytes."""
        return dataclasses.replace(self, signature="").to_json()

    def signed(self, key: Ed25519PrivateKey) -> Evidence[D]:
        """Returns the evidence with the signature of the owner."""
        return dataclasses.replace(self, signature=key.sign(self.content).hex())

    def plain(self) -> dict[str, Any]:
        """Returns the evidence as JSON values."""
        values: dict[str, Any] = json.loads(self.to_json())
        return values

    def flat(self) -> dict[str, Any]:
        """Returns all fields by name, with those of the details at the same level."""
        fields = dataclasses.asdict(self)
        details = fields.pop("details")
        return {**fields, **details}


def load(path: Path, details: type[D]) -> Evidence[D]:
    """Reads the evidence of the method with these details.

    Raises:
        BadInput: The file cannot be read, or is not evidence of this method.
    """
    try:
        return pydantic.TypeAdapter(Evidence[details]).validate_json(read_bytes(path, MOST))  # type: ignore[valid-type]
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}; expected an evidence file") from None
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        given = first["input"] if first["type"] == "missing" and isinstance(first["input"], dict) else {}
        if "verdict" in given and "details" not in given:
            raise BadInput(f"{path}: evidence of an earlier version: run the proof again") from None
        raise BadInput(f"{path}: not evidence of this method: {problem(error)}") from None


def method_of(path: Path) -> str:
    """Returns the name of the method whose evidence a file holds.

    Raises:
        BadInput: The file cannot be read, or is not evidence.
    """
    try:
        found = json.loads(read_bytes(path, MOST))["method"]
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}; expected an evidence file") from None
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
        raise BadInput(f"{path}: not an evidence file") from None
    return str(found)


def describe(evidence: Evidence[Any]) -> str:
    """Formats the findings and the next step, in a few lines."""
    where = f" at {evidence.suspect_url}" if evidence.suspect_url else ""
    lines = [
        f"{evidence.suspect}{where}: {evidence.verdict} at alpha {evidence.alpha:.3g}, p = {evidence.p_value:.3g}",
        f"queried the suspect with {evidence.suspect_queries:,} {getattr(evidence.details, 'unit', 'rows')}",
        *evidence.details.describe(evidence.verdict),
        evidence.caution,
    ]
    return "\n  ".join(lines)


def expect_writable(path: Path) -> None:
    """Raises :class:`BadInput` if a file cannot be written; call this before the first paid query."""
    if path.is_dir():
        raise BadInput(f"{path} is a folder, but must be a file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{path} cannot be written: {error.strerror}") from None
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise BadInput(f"{path} cannot be written: permission denied")


class Accusations(NamedTuple):
    """The number of accused suspects, with the exact 95 % interval of the rate."""

    accused: int
    suspects: int
    low: float
    high: float


def accusations(evidences: Sequence[Evidence[Any]]) -> Accusations:
    """Counts accusations among at least one suspect; for independent models, gives the false accusation rate."""
    accused = sum(evidence.verdict == "accused" for evidence in evidences)
    _, low, high = exact_interval(accused, len(evidences))
    return Accusations(accused, len(evidences), low, high)
