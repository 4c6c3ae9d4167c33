"""Recipes of networks, and networks kept under the hash of their recipe."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from wire import BadInput
from zoo import folder
from zoo.cache import once
from zoo.data.pool import Pool
from zoo.families import Family, name_of
from zoo.network import Network
from zoo.training import Training

VERSION = 2  # to be raised when the same recipe comes to mean another network


@dataclass(frozen=True)
class Recipe:
    """All that a network depends on beside its rows.

    Attributes:
        family: The model family with its fields.
        training: How it is trained.
        seed: Seeds the first weights and the order of the rows.
    """

    family: Family
    training: Training
    seed: int = 0

    def key(self, pool: Pool) -> str:
        """Returns the hash of the recipe and its rows, in hexadecimal."""
        parts = {"version": VERSION, "family": name_of(self.family), "rows": pool.fingerprint}
        text = json.dumps({**parts, **dataclasses.asdict(self)}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def train(self, pool: Pool, *, device: str | None = None, label: str = "") -> Network:
        """Trains a network on a pool with labels and names of its classes."""
        if pool.y is None:
            raise BadInput("these rows have no labels to train on")
        network = Network.new(self.family, pool.input_shape, pool.class_names, seed=self.seed, device=device)
        return network.fit(pool.x, pool.y, self.training, seed=self.seed, label=label)


def trained(recipe: Recipe, pool: Pool, cache: Path, *, device: str | None = None, label: str = "") -> Network:
    """Returns the network of a recipe, which is trained only the first time.

    Args:
        recipe: The recipe.
        pool: The rows with their labels.
        cache: Folder of everything that is kept.
        device: Where to train and to use it; None chooses CUDA where there is one.
        label: What the progress bar calls it.

    Raises:
        BadInput: The rows have no labels, or what was kept is broken.
    """

    def make(path: Path) -> None:
        network = recipe.train(pool, device=device, label=label)
        folder.save(network, path, seed=recipe.seed, rows=len(pool))

    return folder.load(once(cache / "models" / recipe.key(pool)[:32], make), device)
