"""Divides a data set into disjoint sets of rows, one per role, before anything is trained.

Anyone with a public data set and the seed can recompute the victim's private rows. So the seed is random and not
stored by default: the files in the state folder are the only record.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from pathlib import Path

import numpy as np

from wire import Array, BadInput
from zoo.cache import once
from zoo.data.dataset import Dataset
from zoo.data.pool import Pool

SHARES = {
    "victim": 20,  # trains the victim: the owner's private set
    "unseen": 5,  # the owner's comparison set: exchangeable with the private set for a model trained on neither
    "pool": 10,  # the attacker's query rows
    "shadow": 10,  # the attacker's training rows for shadow models
    "control": 10,  # trains independent models of the same distribution
    "reference": 10,  # the owner's rows that train neither the victim nor its twins, to choose queries from
    "evaluation": 5,  # held out from all parties, to evaluate models
}

PARTIES = {
    "attacker": ("pool", "shadow", "candidates"),
    "owner": ("victim", "unseen", "reference"),
    "judge": ("evaluation", "control", "truth"),
}
"""The files that each party may have."""


def draw(dataset: Dataset, seed: int) -> dict[str, Pool]:
    """Draws each role's rows at random, without replacement across all roles.

    Args:
        dataset: The data set.
        seed: Seed of the draw.

    Returns:
        A pool for each role in :data:`SHARES`; a share counts seventieths of the rows, rounded down.

    Raises:
        BadInput: A role would get no rows.
    """
    whole = sum(SHARES.values())
    sizes = {role: len(dataset.pool) * share // whole for role, share in SHARES.items()}
    if min(sizes.values()) < 1:
        raise BadInput(f"{dataset.name} has {len(dataset.pool)} rows; roles need at least {whole // 5}")
    order = np.random.default_rng(seed).permutation(len(dataset.pool))
    ends = np.cumsum(list(sizes.values()))
    parts = np.split(order[: ends[-1]], ends[:-1])
    return {role: dataset.pool.take(part) for role, part in zip(SHARES, parts, strict=True)}


def candidates(members: Pool, others: Pool, seed: int) -> tuple[Pool, Array]:
    """Shuffles equal numbers of members and non-members of a victim's training set, for a membership attack.

    Args:
        members: Labelled rows of the victim's training set; the first n are used.
        others: Labelled rows outside it; the first n are used, where n is the smaller number of rows.
        seed: Seed of the order, together with the members' rows.

    Returns:
        The candidates with their labels, and which of them are members, ``(2 n,)`` bool, kept from the attacker.
    """
    n = min(len(members), len(others))
    rng = np.random.default_rng([seed, int(members.fingerprint[:16], 16)])
    assert members.y is not None and others.y is not None
    order = rng.permutation(2 * n)
    x, y = np.concatenate([members.x[:n], others.x[:n]]), np.concatenate([members.y[:n], others.y[:n]])
    return replace(members, x=x[order], y=y[order]), order < n


def kept(dataset: Dataset, seed: int | None, state: Path) -> Path:
    """Returns the folder of a data set's roles in the state folder; draws and writes them if necessary."""
    name = dataset.name if seed is None else f"{dataset.name}-{seed}"
    return written(dataset, seed, state / "roles" / name)


def written(dataset: Dataset, seed: int | None, folder: Path) -> Path:
    """Returns a folder with the files of all roles; draws and writes them if the folder does not exist.

    Each role has a file ``<role>.npz``; the pool's has no labels, because an attacker starts without them. The
    folder also has ``candidates.npz`` for a membership attack, and ``truth.npz``, whose array ``member`` marks the
    candidates in the victim's training set.

    Args:
        dataset: The data set.
        seed: Seed of the draw; None for a random seed that is not stored.
        folder: The folder.

    Raises:
        BadInput: A role would get no rows, or the folder was made from other rows or with another seed.
    """
    made_of = f"{dataset.name}, rows {dataset.pool.fingerprint}"
    made_of += ", by a secret seed" if seed is None else f", seed {seed}"

    def make(path: Path) -> None:
        chosen = secrets.randbits(128) if seed is None else seed
        drawn = draw(dataset, chosen)
        for role, pool in drawn.items():
            kept = replace(pool, y=None) if role == "pool" else pool
            kept.save(path / f"{role}.npz")
        rows, member = candidates(drawn["victim"], drawn["evaluation"], chosen)
        rows.save(path / "candidates.npz")
        np.savez(path / "truth.npz", member=member)
        (path / "made-of.txt").write_text(made_of)

    note = once(folder, make) / "made-of.txt"
    whole = all((folder / f"{role}.npz").exists() for role in SHARES)
    if not whole or not note.exists() or note.read_text() != made_of:
        raise BadInput(f"{folder} does not hold the roles of {made_of}; remove it, or choose another folder")
    return folder


def hand_out(folder: Path, party: str, out: Path) -> list[Path]:
    """Copies the files that a party may have, and returns their new paths.

    Args:
        folder: The folder of all roles' files, made by :func:`written`.
        party: One of :data:`PARTIES`.
        out: The party's folder, created if necessary.

    Raises:
        BadInput: The party's folder has a file of that name with other rows, from another draw for example.
    """
    out.mkdir(parents=True, exist_ok=True)
    paths = [out / f"{name}.npz" for name in PARTIES[party]]
    for path in paths:
        content = (folder / path.name).read_bytes()
        if path.exists() and path.read_bytes() != content:
            raise BadInput(f"{path} differs from the file in {folder}; remove it, or choose another folder")
        partial = path.with_name(f".{path.name}.partial")
        partial.write_bytes(content)
        partial.replace(path)
    return paths
