"""The folder of a study: the victim, its twins, their rows, and the plan that commits to all of them.

The plan is ``study.json``; its SHA-256 is the commitment, to be published before there is a suspect. The folder
holds the secret of the draws and the private rows, so only the owner and a judge may have it.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pydantic

from owner.twins.known import Known
from owner.twins.twins import Predict, Twins, untrained
from wire import Array, BadInput, Labels
from wire.files import TEXT, read_bytes
from zoo import folder
from zoo.data.pool import Pool
from zoo.families import Architecture
from zoo.recipe import Recipe
from zoo.training import Training

PLAN = "study.json"
GUESSABLE = 2**32  # seeds below can be tried out


@dataclass(frozen=True)
class Plan:
    """What a commitment binds.

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
        weights: SHA-256 of the weights of the victim, the twins and the thefts; of the victim alone until all are
            trained.
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
    weights: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether all models are trained."""
        return len(self.weights) == 1 + self.twins + self.thefts

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

    def to_json(self) -> bytes:
        """Writes the plan as JSON."""
        return _ADAPTER.dump_json(self, indent=1) + b"\n"


_ADAPTER = pydantic.TypeAdapter(Plan)


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


def begin(
    study: Path,
    victim: Path,
    pools: Mapping[str, Pool],
    twins: int,
    settings: Mapping[str, dict[str, int | float]],
    thefts: int = 0,
) -> Plan:
    """Starts a study, or continues it, and returns its plan.

    Args:
        study: The folder, created if necessary.
        victim: The folder of the victim.
        pools: The pools ``private``, which trained the victim, and ``reference``, which trains no model; and
            ``unseen``, which was separated from ``private`` at random, unless the victim was trained on all rows.
        twins: Number of twins.
        settings: The settings of each test, by its name.
        thefts: Number of thefts to simulate, for selected dataset inference.

    Raises:
        BadInput: The victim or the pools cannot be used, or the folder holds another study.
    """
    model, card = folder.load(victim), folder.read_card(victim)
    untrained(pools["reference"], known_rows(pools))
    if thefts and (thefts < 2 or "unseen" not in pools or not isinstance(model.family, Architecture)):
        raise BadInput("simulated thefts need a network, unseen images, and to be at least two")
    if known_rows(pools).y is None:
        raise BadInput("the private and unseen rows need labels: the twins are trained on them")
    new = Plan(
        family=card.family,
        fields=card.fields,
        training=card.training,
        rows=len(pools["private"]),
        pools={name: pool.fingerprint for name, pool in pools.items()},
        secret=secrets.token_hex(32),
        seed=card.about.get("seed"),
        twins=twins,
        thefts=thefts,
        settings=dict(settings),
        weights=(card.sha256,),
    )
    if (study / PLAN).exists():
        old = read(study)
        if replace(new, secret=old.secret, weights=old.weights) != old or old.weights[0] != card.sha256:
            raise BadInput(f"{study} holds another study: choose another folder, or remove it")
        return old
    study.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name, pool in pools.items():
        pool.save(study / f"{name}.npz")
    model.checkpoints = ()
    folder.save(model, study / "model-0", **card.about)
    write(study, new)
    return new


def known_rows(pools: Mapping[str, Pool]) -> Pool:
    """Returns the rows from which each model drew its own: the private and the unseen ones."""
    private, unseen = pools["private"], pools.get("unseen")
    if unseen is None:
        return private
    if unseen.class_names != private.class_names or unseen.input_shape != private.input_shape:
        raise BadInput("the private and the unseen rows differ in form or classes; expected rows of one data set")
    y = None if private.y is None or unseen.y is None else np.concatenate([private.y, unseen.y])
    return replace(private, x=np.concatenate([private.x, unseen.x]), y=y)


def write(study: Path, plan: Plan) -> None:
    """Writes the plan of a study."""
    unfinished = study / f".{PLAN}.partial"
    unfinished.touch(mode=0o600)
    unfinished.write_bytes(plan.to_json())
    unfinished.replace(study / PLAN)


def read(study: Path) -> Plan:
    """Reads the plan of a study.

    Raises:
        BadInput: The folder does not hold a study.
    """
    path = study / PLAN
    try:
        return _ADAPTER.validate_json(read_bytes(path, TEXT))
    except OSError as error:
        raise BadInput(
            f"{path}: {error.strerror}; expected a folder made by `mlaas-range prove prepare`"
        ) from None
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        raise BadInput(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def read_pools(study: Path, plan: Plan) -> dict[str, Pool]:
    """Reads the pools of a study, or raises :class:`~wire.BadInput` if they are not those of the plan."""
    pools = {name: Pool.load(study / f"{name}.npz") for name in plan.pools}
    for name, pool in pools.items():
        if pool.fingerprint != plan.pools[name]:
            raise BadInput(f"{study / name}.npz does not hold the rows to which {PLAN} commits")
    return pools


def root_of(study: Path) -> str:
    """Returns the commitment to a study: the SHA-256 of its plan, in hexadecimal."""
    return hashlib.sha256((study / PLAN).read_bytes()).hexdigest()


def load(study: Path) -> Twins:
    """Opens a study; a model is read when it is first asked.

    Raises:
        BadInput: The folder does not hold a complete study, or its files are not those of the plan.
    """
    plan = read(study)
    if not plan.complete:
        raise BadInput(
            f"{study} is not complete: run `mlaas-range prove prepare` again, which goes on where it was stopped"
        )
    pools = read_pools(study, plan)
    paths = model_folders(study, plan)
    for path, weights in zip(paths, plan.weights, strict=True):
        if folder.read_card(path).sha256 != weights:
            raise BadInput(f"{path} does not hold the weights to which {PLAN} commits")
    return Twins(
        models=[_reading(path) for path in paths[: 1 + plan.twins]],
        victim=0,
        card=folder.read_card(paths[0]).takes(),
        reference=untrained(pools["reference"], known_rows(pools)),
        root=root_of(study),
        settings=plan.settings,
        guessable_seed=plan.seed is None or plan.seed < GUESSABLE,
    )


def load_known(study: Path) -> Known:
    """Opens a study for selected dataset inference; see :func:`load`.

    Raises:
        BadInput: The study has no simulated thefts, or cannot be opened.
    """
    twins, plan = load(study), read(study)
    if not plan.thefts:
        raise BadInput(f"{study} has no simulated thefts: prepare a study with --thefts 16")
    pool, robbed = known_rows(read_pools(study, plan)), [plan.robbed(theft + 1) for theft in range(plan.thefts)]
    return Known(
        twins=twins,
        pool=pool,
        private=plan.rows,
        twin_bits=np.stack([plan.bits(number + 1, len(pool)) for number in range(plan.twins)]),
        thefts=[_reading(path) for path in model_folders(study, plan)[1 + plan.twins :]],
        theft_bits=np.stack([plan.bits(number, len(pool)) for number in robbed]),
        seed=(int(plan.secret, 16), 0),
    )


def model_folder(study: Path, number: int) -> Path:
    """Returns the folder of a model: 0 is the victim, the others are its twins."""
    return study / f"model-{number}"


def theft_folder(study: Path, number: int) -> Path:
    """Returns the folder of a simulated theft, numbered from 1."""
    return study / f"theft-{number}"


def model_folders(study: Path, plan: Plan) -> list[Path]:
    """Returns the folders of all models, in the order of the plan's weights."""
    models = [model_folder(study, number) for number in range(1 + plan.twins)]
    return models + [theft_folder(study, 1 + number) for number in range(plan.thefts)]


def _reading(path: Path) -> Predict:
    return partial(_predict, path)


def _predict(path: Path, x: Array) -> Array:
    return folder.load(path).predict(x)
