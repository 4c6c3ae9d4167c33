"""What the owner learned of the victim, kept so that several suspects cost one study."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wire import Array, BadInput, Labels

About = Mapping[str, str | int | float]


@dataclass(frozen=True, eq=False)
class Study:
    """The victim's features of the images that fit the regressor, and which images are held out for suspects.

    Attributes:
        private: Features of private images, ``(n, starts, noises)``.
        unseen: Features of unseen images, ``(n, starts, noises)``.
        held_private: Indices of the held-out images in the private pool, ``(m,)``.
        held_unseen: Indices of the held-out images in the unseen pool, ``(m,)``.
        model: Name of the victim's model.
        queries: Rows asked of the victim.
        reused: Whether the study comes from a file.
    """

    private: Array
    unseen: Array
    held_private: Labels
    held_unseen: Labels
    model: str
    queries: int
    reused: bool = False

    def save(self, path: Path, about: About) -> None:
        """Writes the study (npz), and beside it what it depends on."""
        with path.open("wb") as file:
            np.savez(
                file,
                private=self.private,
                unseen=self.unseen,
                held_private=self.held_private,
                held_unseen=self.held_unseen,
                model=np.array(self.model),
                queries=np.array(self.queries),
                about=np.array(json.dumps(dict(about))),
            )

    @staticmethod
    def load(path: Path, about: About) -> Study:
        """Reads a study.

        Raises:
            BadInput: The file is broken, or was made under other conditions than ``about``.
        """
        try:
            with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                made = json.loads(str(file["about"]))
                other = [
                    f"{name} {made.get(name)} (now {value})"
                    for name, value in about.items()
                    if made.get(name) != value
                ]
                if other:
                    raise BadInput(f"{path} was made with {', '.join(other)}: name another file, or remove it")
                return Study(
                    file["private"],
                    file["unseen"],
                    file["held_private"],
                    file["held_unseen"],
                    str(file["model"]),
                    int(file["queries"]),
                    reused=True,
                )
        except BadInput:
            raise
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise BadInput(
                f"{path} holds no features of a victim ({error}): name another file, or remove it"
            ) from None
