"""What the owner holds, and what was learnt from the victim: kept so that several suspects cost one study."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from owner.ownership import About
from wire import Array, BadInput, Card, Labels, Oracle
from wire.fits import label_misfit, misfit
from zoo.data.pool import Pool


@dataclass(frozen=True, eq=False)
class Images:
    """What dataset inference needs of the owner.

    Attributes:
        victim: The owner's model.
        private: Images that trained it, with their true labels.
        unseen: Images of the same distribution that trained neither victim nor suspect, with theirs.
    """

    victim: Oracle
    private: Pool
    unseen: Pool

    def check(self, card: Card, fit: int, test: int) -> None:
        """Raises :class:`~wire.BadInput` if the images do not fit a model, or are fewer than ``fit + test``."""
        if not card.dtype.startswith("FP"):
            raise BadInput(
                f"{card.model} takes {card.dtype}, but walks have steps smaller than 1: FP32 or the like"
            )
        for side, pool in {"private": self.private, "unseen": self.unseen}.items():
            if len(pool) < fit + test:
                raise BadInput(
                    f"the {side} pool has {len(pool)} rows, but {fit} to fit and {test} to test make {fit + test}"
                )
            if wrong := misfit(pool.x, card) or label_misfit(pool.y, card):
                raise BadInput(f"the {side} pool: {wrong}")


@dataclass(frozen=True, eq=False)
class Embeddings:
    """The victim's features of the images that fit the regressor, and which images are held out for suspects.

    Attributes:
        private: Features of private images, ``(n, starts, noises)``.
        unseen: Features of unseen images, ``(n, starts, noises)``.
        held_private: Indices of the held-out images in the private pool, ``(m,)``.
        held_unseen: Indices of the held-out images in the unseen pool, ``(m,)``.
    """

    private: Array
    unseen: Array
    held_private: Labels
    held_unseen: Labels


@dataclass(frozen=True, eq=False)
class Study:
    """A victim as dataset inference knows it.

    Attributes:
        images: What the owner holds.
        embeddings: The victim's features.
        queries: Rows asked of the victim.
        reused: Whether the study comes from a file.
    """

    images: Images
    embeddings: Embeddings
    queries: int
    reused: bool = False

    def save(self, path: Path, about: About) -> None:
        """Writes the study (npz), and what it depends on."""
        with path.open("wb") as file:
            np.savez(
                file,
                **vars(self.embeddings),
                queries=np.array(self.queries),
                about=np.array(json.dumps(dict(about))),
            )

    @staticmethod
    def load(path: Path, images: Images, about: About) -> Study:
        """Reads a study.

        Raises:
            BadInput: The file is broken, or was made under other conditions than ``about``.
        """
        try:
            with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                made = json.loads(str(file["about"]))
                arrays = {field.name: file[field.name] for field in fields(Embeddings)}
                queries = int(file["queries"])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise BadInput(
                f"{path} holds no features of a victim ({error}): name another file, or remove it"
            ) from None
        other = [
            f"{name} {made.get(name)} (now {value})" for name, value in about.items() if made.get(name) != value
        ]
        if other:
            raise BadInput(f"{path} was made with {', '.join(other)}: name another file, or remove it")
        return Study(images, Embeddings(**arrays), queries, reused=True)
