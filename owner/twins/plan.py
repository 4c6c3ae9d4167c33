"""The plan of a study: all that determines the victim, its twins and the tests, and so what a commitment binds."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import orjson
import pydantic

from owner.commitment import Entry, Opened, commitment_to, opened
from wire import Array, Labels
from zoo import folder
from zoo.data.pool import Pool
from zoo.folder import ModelCard
from zoo.recipe import Recipe
from zoo.training import Training

PARTS: Mapping[str, tuple[str, ...]] = {
    "recipe": ("family", "fields", "training", "rows"),
    "rows": ("pools",),
    "draws": ("secret",),
    "victim": ("seed", "beacon"),
    "models": ("twins", "thefts", "models"),
    "rule": ("settings",),
}
"""The parts of a commitment, each with fields of the plan."""


@dataclass(frozen=True)
class Plan:
    """The content of a commitment.

    Attributes:
        family: Name of the models' family.
        fields: The family's fields.
        training: The training parameters; None if the family has none.
        rows: Number of rows that train each model.
        pools: SHA-256 of the pools ``private``, ``unseen`` and ``reference``; of ``unseen`` only if it is used.
        secret: The secret of all twins' seeds and rows, in hexadecimal.
        seed: The victim's seed; None if its card does not name it.
        twins: Number of twins M.
        thefts: Number of simulated thefts of twins.
        settings: The settings of each test, by its name.
        models: SHA-256 of the victim, the twins and the thefts, of their weights and cards; of the victim alone
            until all are trained.
        beacon: Name of the public value that draws the victim among model 0 and the twins; None if model 0 is the
            victim.
    """

    family: str
    fields: dict[str, Any]
    training: Training | None
    rows: int
    pools: dict[str, str]
    secret: str
    seed: int | None
    twins: int
    thefts: int
    settings: dict[str, dict[str, int | float]]
    models: tuple[str, ...]
    beacon: str | None = None

    @property
    def complete(self) -> bool:
        """Whether all models are trained."""
        return len(self.models) == 1 + self.twins + self.thefts

    def recipe(self, number: int) -> Recipe:
        """Returns the recipe of a twin, numbered from 1, or that of the victim, number 0."""
        family = folder.family_of(self.family, self.fields)
        training = replace(self.training or Training(), checkpoints=0)
        seed = drawn(self.secret, number, 0, 0)[0] if number else self.seed or 0
        return Recipe(family, training, seed)

    def rows_of(self, number: int, known: Pool) -> Pool:
        """Returns the rows that train a twin, out of all rows of the owner."""
        return known.take(drawn(self.secret, number, len(known), self.rows)[1])

    def bits(self, number: int, of: int) -> Array:
        """Returns which of the owner's rows train a twin, ``(of,)`` bool."""
        found = np.zeros(of, bool)
        found[drawn(self.secret, number, of, self.rows)[1]] = True
        return found

    def robbed(self, theft: int) -> int:
        """Returns the number of the twin that a simulated theft, numbered from 1, steals."""
        return 1 + (theft - 1) % self.twins

    @property
    def parts(self) -> dict[str, bytes]:
        """The parts of the commitment, as JSON."""
        values = PLANS.dump_python(self, mode="json")
        sort = orjson.OPT_SORT_KEYS
        return {part: orjson.dumps({name: values[name] for name in PARTS[part]}, option=sort) for part in PARTS}

    @property
    def entry(self) -> Entry:
        """The commitment to this plan, as an entry of a log."""
        return Entry(commitment_to(self.parts, self.secret), 1 + self.twins, self.beacon)

    @property
    def rule(self) -> Opened:
        """The rule of the tests, opened."""
        return opened(self.parts, self.secret, "rule")

    def to_json(self) -> bytes:
        """Writes the plan as JSON."""
        return PLANS.dump_json(self, indent=1) + b"\n"


PLANS = pydantic.TypeAdapter(Plan)


def drawn(secret: str, number: int, of: int, rows: int) -> tuple[int, Labels]:
    """Draws the seed of a twin and the rows that train it, in their order.

    Args:
        secret: The secret of the study, in hexadecimal.
        number: Number of the twin.
        of: Number of rows to draw from.
        rows: Number of rows to draw.
    """
    rng = np.random.default_rng([int(secret, 16), number])
    return int(rng.integers(2**63)), rng.permutation(of)[:rows]


def model_hash(card: ModelCard) -> str:
    """Returns the SHA-256 of a model's weights and card, without its notes, in hexadecimal."""
    return hashlib.sha256(card.model_dump_json(exclude={"about", "checkpoints"}).encode()).hexdigest()
