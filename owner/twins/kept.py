"""Arrays that are prepared once for a study, and kept in a file with the commitment to it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

import numpy as np

from wire import BadInput
from wire.files import read_arrays


@dataclass(frozen=True, eq=False)
class Kept:
    """A dataclass whose fields are arrays; its name says what they are in the study."""

    def save(self, path: Path, root: str) -> None:
        """Writes the arrays (npz) with the commitment to the study."""
        partial = path.with_name(f".{path.name}.partial")
        with partial.open("wb") as file:
            np.savez(file, **vars(self), root=np.array(root))
        partial.replace(path)

    @classmethod
    def load(cls, path: Path, root: str) -> Self:
        """Reads the arrays.

        Raises:
            BadInput: The file is invalid, or belongs to a study with another commitment.
        """
        what = f"the {cls.__name__.lower()} of a study"
        arrays = read_arrays(path, what)
        names = [field.name for field in fields(cls)]
        if arrays.keys() != {"root", *names}:
            raise BadInput(f"{path} does not hold {what}, but {sorted(arrays)}: remove it")
        if (made_for := str(arrays["root"])) != root:
            raise BadInput(f"{path} belongs to the commitment {made_for}, but the study's is {root}: remove it")
        return cls(*(arrays[name] for name in names))
