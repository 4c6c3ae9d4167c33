"""The owner's images and the victim's features, which can be saved so that several suspects need one study."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from owner.ownership import About
from wire import Array, BadInput, Card, Labels, Oracle
from wire.files import read_arrays
from wire.fits import label_misfit, misfit
from zoo.data.pool import Pool


@dataclass(frozen=True, eq=False)
class Images:
    """The owner's holdings for dataset inference.

    Attributes:
        victim: The owner's model.
        private: Images that the victim was trained on, with true labels.
        unseen: Images of the same distribution that neither victim nor suspect was trained on, with true labels.
    """

    victim: Oracle
    private: Pool
    unseen: Pool

    def check(self, card: Card, fit: int, test: int) -> None:
        """Raises :class:`~wire.BadInput` if the images do not fit a model, or are fewer than ``fit + test``."""
        if not card.dtype.startswith("FP"):
            raise BadInput(
                f"{card.model} takes {card.dtype}, but the steps of walks are fractions; expected FP32 or the like"
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
    """The victim's features of the images that fit the regressor, and the images held out for suspects.

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

    def check(self, images: Images) -> None:
        """Raises ValueError if these are not features and indices of the images."""
        for features in (self.private, self.unseen):
            if features.ndim != 3 or features.dtype.kind != "f" or features.shape[1:] != self.private.shape[1:]:
                raise ValueError(f"features are {features.shape} {features.dtype}")
        for held, pool in ((self.held_private, images.private), (self.held_unseen, images.unseen)):
            if held.ndim != 1 or held.dtype != np.int64 or not np.isin(held, np.arange(len(pool))).all():
                raise ValueError(f"held-out images must be indices of the {len(pool)} rows")


@dataclass(frozen=True, eq=False)
class Study:
    """The study of a victim.

    Attributes:
        images: The owner's holdings.
        embeddings: The victim's features.
        queries: Number of rows queried from the victim.
        reused: Whether the study was read from a file.
    """

    images: Images
    embeddings: Embeddings
    queries: int
    reused: bool = False

    def save(self, path: Path, about: About) -> None:
        """Writes the study (npz) with the conditions that it depends on."""
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
            BadInput: The file is invalid, or was made under conditions other than ``about``.
        """
        arrays = read_arrays(path, "a victim's features")
        try:
            made, queries = dict(json.loads(str(arrays.pop("about")))), int(arrays.pop("queries"))
            embeddings = Embeddings(**arrays)
            embeddings.check(images)
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
            raise BadInput(
                f"{path} is not a file of a victim's features ({error}): choose another file, or remove it"
            ) from None
        other = [
            f"{name} {made.get(name)} (now {value})" for name, value in about.items() if made.get(name) != value
        ]
        if other:
            raise BadInput(f"{path} was made with {', '.join(other)}: choose another file, or remove it")
        return Study(images, embeddings, queries, reused=True)
