"""Who holds which rows: disjoint draws from one pool, made before anything is trained.

Whoever knows a public data set and the seed of the draw knows the victim's private rows. So by default the seed is
random and kept nowhere: the files in the state folder are the draw.
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
    "unseen": 5,  # the owner's comparison set: for a model that saw neither, exchangeable with the private one
    "pool": 10,  # the attacker's, to query with
    "shadow": 10,  # the attacker's, to train shadow models on
    "control": 20,  # trains independent models of the same distribution
    "evaluation": 5,  # held out from everybody, to judge models by
}

PARTIES = {
    "attacker": ("pool", "shadow", "candidates"),
    "owner": ("victim", "unseen"),
    "judge": ("evaluation", "control", "truth"),
}
"""The files that a party may hold."""


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


def candidates(members: Pool, others: Pool, seed: int) -> tuple[Pool, Array]:
    """Shuffles rows that trained a victim among as many that did not, for a membership attack.

    Args:
        members: Rows that trained the victim, with their labels; as many of them are taken as there are others.
        others: Rows that did not, with theirs.
        seed: Seeds the order, together with the members' rows.

    Returns:
        The candidates with their labels, and which of them are members, ``(2 n,)`` bool: not for the attacker.
    """
    n = min(len(members), len(others))
    rng = np.random.default_rng([seed, int(members.fingerprint[:16], 16)])
    assert members.y is not None and others.y is not None
    order = rng.permutation(2 * n)
    x, y = np.concatenate([members.x[:n], others.x[:n]]), np.concatenate([members.y[:n], others.y[:n]])
    return replace(members, x=x[order], y=y[order]), order < n


def kept(dataset: Dataset, seed: int | None, state: Path) -> Path:
    """Returns the folder of a data set's roles in a state folder, drawn first if it is not there yet."""
    name = dataset.name if seed is None else f"{dataset.name}-{seed}"
    return written(dataset, seed, state / "roles" / name)


def written(dataset: Dataset, seed: int | None, folder: Path) -> Path:
    """Returns a folder with the files of all roles, drawn and written if it is not there yet.

    There is a file ``<role>.npz`` for each role; the pool's has no labels, since a thief has rows only. Beside
    them stand the ``candidates.npz`` of a membership attack, and ``truth.npz``, whose ``member`` says which
    candidates trained the victim.

    Args:
        dataset: The data set.
        seed: Seeds the draw; None draws a seed that nobody learns.
        folder: Where the folder stands, or is made.

    Raises:
        BadInput: Some role would get no row, or the folder was drawn from other rows or by another seed.
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
    if not note.exists() or note.read_text() != made_of:
        raise BadInput(f"{folder} does not hold the roles of {made_of}; remove it, or name another folder")
    return folder


def hand_out(folder: Path, party: str, out: Path) -> list[Path]:
    """Copies the files that a party may hold, and returns where they are.

    Args:
        folder: All roles' files, as :func:`written` leaves them.
        party: One of :data:`PARTIES`.
        out: The party's folder, which is made if it is not there.

    Raises:
        BadInput: The party holds other rows under such a name, those of another draw for instance.
    """
    out.mkdir(parents=True, exist_ok=True)
    paths = [out / f"{name}.npz" for name in PARTIES[party]]
    for path in paths:
        content = (folder / path.name).read_bytes()
        if path.exists() and path.read_bytes() != content:
            raise BadInput(f"{path} holds other rows than {folder}; remove it, or name another folder")
        partial = path.with_name(f".{path.name}.partial")
        partial.write_bytes(content)
        partial.replace(path)
    return paths
