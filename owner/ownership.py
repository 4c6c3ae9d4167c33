"""The protocol that every ownership method keeps. The command calls nothing else of a method."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np

from owner.evidence import Evidence
from wire import Card, Oracle

H_contra = TypeVar("H_contra", contravariant=True)
S = TypeVar("S")

About = Mapping[str, str | int | float]


class MostRows(NamedTuple):
    """How many rows a method asks at most of the victim and of a suspect; None if that depends on the answers."""

    victim: int | None = None
    suspect: int | None = None


class Ownership(Protocol[H_contra, S]):
    """A way to test whether a suspect derives from the owner's model.

    A method is a frozen dataclass of hyper-parameters. It prepares a study once, from what the owner holds, and
    tests each suspect against the study. The type of ``holdings`` is a dataclass; the command fills in its fields
    by name (``owner/runner.py``), so that a method takes what it needs and no more.
    """

    def most_rows(self) -> MostRows:
        """Returns how many rows it asks at most."""
        ...

    def check(self, suspect: Card, holdings: H_contra) -> None:
        """Checks the holdings, and whether they fit a suspect.

        Raises:
            BadInput: They do not.
        """
        ...

    def prepare(self, holdings: H_contra, rng: np.random.Generator) -> S:
        """Computes what the test needs and no suspect changes.

        Args:
            holdings: What the owner holds.
            rng: Source of randomness.

        Raises:
            BadInput: The holdings are unusable; nothing was asked.
            WireError: A model stopped answering.
        """
        ...

    def accuse(self, suspect: Oracle, study: S, rng: np.random.Generator) -> Evidence[Any]:
        """Asks a suspect and returns the evidence.

        Args:
            suspect: The suspected model.
            study: What :meth:`prepare` returned.
            rng: Source of randomness.

        Raises:
            WireError: The suspect stopped answering.
        """
        ...


@runtime_checkable
class KeepsStudy(Protocol[H_contra, S]):
    """A method whose study can be kept in a file, so that further suspects cost the victim nothing."""

    def save_study(self, study: S, path: Path, about: About) -> None:
        """Writes a study, and what it depends on beside the method's settings."""
        ...

    def load_study(self, path: Path, holdings: H_contra, about: About) -> S:
        """Reads a study.

        Raises:
            BadInput: The file is broken, or was made under other conditions.
        """
        ...


def prove(
    method: Ownership[H_contra, S], suspect: Oracle, holdings: H_contra, rng: np.random.Generator
) -> Evidence[Any]:
    """Tests one suspect: checks, prepares and accuses."""
    method.check(suspect.card, holdings)
    prepare_rng, accuse_rng = rng.spawn(2)
    return method.accuse(suspect, method.prepare(holdings, prepare_rng), accuse_rng)
