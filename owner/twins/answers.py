"""The queries of the twin test, and the answers of the victim and its twins, which are kept in a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from owner.twins.twins import Twins
from wire import Array, BadInput, Labels, Oracle
from wire.files import read_arrays


@dataclass(frozen=True)
class Holdings:
    """The owner's holdings for the twin test.

    Attributes:
        twins: The victim, its twins and the reference rows.
        independent: Models known not to be stolen, by name.
    """

    twins: Twins
    independent: Mapping[str, Oracle]


@dataclass(frozen=True, eq=False)
class Answers:
    """The answers of the victim and its twins.

    Attributes:
        chosen: Numbers of the chosen reference rows, ``(m,)``.
        probs: The models' probabilities for all queries, ``(M + 1, n, k)`` float32.
    """

    chosen: Labels
    probs: Array

    def save(self, path: Path, root: str) -> None:
        """Writes the answers (npz) with the commitment to the study."""
        partial = path.with_name(f".{path.name}.partial")
        with partial.open("wb") as file:
            np.savez(file, chosen=self.chosen, probs=self.probs, root=np.array(root))
        partial.replace(path)

    @staticmethod
    def load(path: Path, root: str) -> Answers:
        """Reads answers.

        Raises:
            BadInput: The file is invalid, or belongs to a study with another commitment.
        """
        arrays = read_arrays(path, "the answers of a study")
        if arrays.keys() != {"root", "chosen", "probs"}:
            raise BadInput(f"{path} does not hold the answers of a study, but {sorted(arrays)}: remove it")
        made_for, answers = str(arrays["root"]), Answers(arrays["chosen"], arrays["probs"])
        if made_for != root:
            raise BadInput(f"{path} belongs to the commitment {made_for}, but the study's is {root}: remove it")
        return answers


@dataclass(frozen=True, eq=False)
class Study:
    """What the tests of all suspects share.

    Attributes:
        holdings: The owner's holdings.
        answers: The chosen rows, and the models' answers.
        x: The queries, ``(n, *input_shape)``: the chosen rows, then the copies of each.
    """

    holdings: Holdings
    answers: Answers
    x: Array
