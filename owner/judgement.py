"""A judgement: what a judge found, and what he checked and could not check."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import pydantic

from owner.evidence import MOST, Evidence
from wire import BadInput
from wire.files import read_bytes

Outcome = Literal["derived", "not shown", "refused"]


class Rejected(BadInput):
    """Evidence that does not show what it claims."""


@dataclass
class Checks:
    """The checks made so far.

    Attributes:
        done: What was found to be as it should be.
        open: What nobody checked, for the reader of the judgement to check.
    """

    done: list[str] = field(default_factory=list)
    open: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Judgement:
    """The findings of a judge about an owner's evidence.

    Attributes:
        outcome: "derived" if the suspect derives from the victim, "not shown" if the repeated test does not show
            it, or "refused" if the owner's evidence, study or log is not what it claims to be.
        why: The reason for the outcome.
        checked: What was checked.
        unchecked: What was not checked, on which the outcome rests.
        evidence: Signature of the evidence that was judged.
        found: The evidence of the repeated test, as JSON; None if it was refused before.
    """

    outcome: Outcome
    why: str
    checked: tuple[str, ...]
    unchecked: tuple[str, ...]
    evidence: str
    found: dict[str, Any] | None = None

    @staticmethod
    def of(evidence: Evidence[Any], checks: Checks, found: Evidence[Any] | Rejected) -> Judgement:
        """Returns the judgement of evidence after the repeated test, or after a refusal."""
        made = tuple(checks.done), tuple(checks.open), evidence.signature
        if isinstance(found, Rejected):
            return Judgement("refused", str(found), *made)
        accused = found.verdict == "accused"
        passed = "passes" if accused else "does not pass"
        why = f"the repeated test {passed} the committed rule: p = {found.p_value:.3g} at alpha {found.alpha:.3g}"
        return Judgement("derived" if accused else "not shown", why, *made, found.plain())

    def check_of(self, evidence: Evidence[Any]) -> None:
        """Raises :class:`~wire.BadInput` if this is a judgement of other evidence."""
        if self.evidence != evidence.signature:
            raise BadInput("the judgement is of other evidence")

    def at(self, url: str) -> Judgement:
        """Returns the judgement with the suspect's URL."""
        return replace(self, found=self.found and {**self.found, "suspect_url": url})

    def save(self, path: Path) -> None:
        """Writes the judgement as JSON."""
        path.write_bytes(_ADAPTER.dump_json(self, indent=2) + b"\n")

    def describe(self) -> str:
        """Formats the outcome, what was checked and what was not, in lines."""
        lines = [f"{self.outcome}: {self.why}"]
        lines += [f"checked: {one}" for one in self.checked] + [f"not checked: {one}" for one in self.unchecked]
        return "\n  ".join(lines)


_ADAPTER = pydantic.TypeAdapter(Judgement)


def load_judgement(path: Path) -> Judgement:
    """Reads a judgement.

    Raises:
        BadInput: The file cannot be read, or holds something else.
    """
    try:
        return _ADAPTER.validate_json(read_bytes(path, MOST))
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}; expected a judgement of `mlaas-range prove judge`") from None
    except pydantic.ValidationError:
        raise BadInput(f"{path}: not a judgement of `mlaas-range prove judge`") from None
