"""Who holds which rows: disjoint draws from one pool, made before anything is trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from wire import BadInput
from zoo.cache import once
from zoo.data.dataset import Dataset
from zoo.data.pool import Pool

SHARES = {
    "victim": 20,  # trains the victim: the owner's private set
    "unseen": 5,  # the owner's comparison set: for a model that saw neither, exchangeable with the private one
    "pool": 10,  # the attacker's, to query with
    "shadow": 10,  # the attacker's, to train shadow models on
    "control": 20,  # trains independent models of the same distribution
    "evaluation": 5,  # nobody's
}


def draw(dataset: Dataset, seed: int) -> dict[str, Pool]:
    """Draws each role's rows at random, without replacement over all roles together.

    Args:
        dataset: The data set, training and test rows merged.
        seed: Seeds the draw.

    Returns:
        A pool for each role in :data:`SHARES`, of so many seventieths of the rows, rounded down.

    Raises:
        BadInput: Some role would get no row.
    """
    whole = sum(SHARES.values())
    sizes = {role: len(dataset.pool) * share // whole for role, share in SHARES.items()}
    if min(sizes.values()) < 1:
        raise BadInput(f"{dataset.name} has {len(dataset.pool)} rows; roles need at least {whole // 5}")
    order = np.random.default_rng(seed).permutation(len(dataset.pool))
    ends = np.cumsum(list(sizes.values()))
    parts = np.split(order[: ends[-1]], ends[:-1])
    return {role: dataset.pool.take(part) for role, part in zip(SHARES, parts, strict=True)}


def written(dataset: Dataset, seed: int, folder: Path) -> Path:
    """Returns a folder that holds a file ``<role>.npz`` for each role, drawn and written if it is not there yet.

    Args:
        dataset: The data set.
        seed: Seeds the draw.
        folder: Folder in which that folder stands.

    Raises:
        BadInput: Some role would get no row.
    """

    def make(path: Path) -> None:
        for role, pool in draw(dataset, seed).items():
            pool.save(path / f"{role}.npz")

    return once(folder / f"{dataset.name}-{seed}", make)
