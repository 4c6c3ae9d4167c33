"""The protocol of an ownership method; the command uses nothing else of a method."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np

from owner.evidence import Evidence
from wire import Card, Oracle

H_contra = TypeVar("H_contra", contravariant=True)
S = TypeVar("S")

About = Mapping[str, str | int | float]


class MostRows(NamedTuple):
    """The maximum number of rows that a method queries from victim and suspect; None if there is no maximum."""

    victim: int | None = None
    suspect: int | None = None


class Ownership(Protocol[H_contra, S]):
    """A test of whether a suspect derives from the owner's model.

    A method is a frozen dataclass of hyper-parameters. It prepares a study once, from the owner's holdings, and
    tests each suspect against the study. The type of ``holdings`` is a dataclass, whose fields the command fills
    in by name (``owner/runner.py``), so that a method gets only what it needs.
    """

    def most_rows(self) -> MostRows:
        """Returns the maximum number of rows that the method queries."""
        ...

    def check(self, suspect: Card, holdings: H_contra) -> None:
        """Checks the holdings, and whether they fit a suspect.

        Raises:
            BadInput: The holdings are invalid, or do not fit.
        """
        ...

    def prepare(self, holdings: H_contra, rng: np.random.Generator) -> S:
        """Computes everything that the tests of all suspects share.

        Args:
            holdings: The owner's data and models.
            rng: Source of randomness.

        Raises:
            BadInput: The holdings are unusable; nothing was queried.
            WireError: A model stopped answering.
        """
        ...

    def accuse(self, suspect: Oracle, study: S, rng: np.random.Generator) -> Evidence[Any]:
        """Queries a suspect and returns the evidence.

        Args:
            suspect: The suspected model.
            study: The result of :meth:`prepare`.
            rng: Source of randomness.

        Raises:
            WireError: The suspect stopped answering.
        """
        ...


@runtime_checkable
class KeepsStudy(Protocol[H_contra, S]):
    """A method whose study can be saved to a file, so that further suspects need no queries to the victim."""

    def save_study(self, study: S, path: Path, about: About) -> None:
        """Writes a study with the conditions that it depends on besides the method's settings."""
        ...

    def load_study(self, path: Path, holdings: H_contra, about: About) -> S:
        """Reads a study.

        Raises:
            BadInput: The file is invalid, or was made under other conditions.
        """
        ...


class Committing:
    """The base of a method whose settings are committed to before there is a suspect."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def committed(self) -> dict[str, int | float]:
        """Returns the settings to commit to: all but ``tries``, the number of suspects that were tested."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "tries"}


def prove(
    method: Ownership[H_contra, S], suspect: Oracle, holdings: H_contra, rng: np.random.Generator
) -> Evidence[Any]:
    """Tests one suspect: checks, prepares and accuses."""
    method.check(suspect.card, holdings)
    prepare_rng, accuse_rng = rng.spawn(2)
    return method.accuse(suspect, method.prepare(holdings, prepare_rng), accuse_rng)
