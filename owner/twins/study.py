"""The folder of a study: the victim, its twins, their rows, and the plan that commits to all of them.

The plan is ``study.json``. The commitment to it is to be published before there is a suspect. The folder holds the
secret of the draws and the private rows, so only the owner and a judge may have it.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pydantic

from owner.commitment import drawn_victim
from owner.log import drand
from owner.twins.known import Known
from owner.twins.plan import PLANS, Plan, model_hash
from owner.twins.twins import Predict, Twins, untrained
from wire import Array, BadInput
from wire.files import TEXT, read_bytes
from zoo import folder
from zoo.data.pool import Pool
from zoo.families import Architecture

PLAN, BEACON = "study.json", "beacon.txt"
GUESSABLE = 2**32  # seeds below can be tried out


def begin(
    study: Path,
    victim: Path,
    pools: Mapping[str, Pool],
    twins: int,
    settings: Mapping[str, dict[str, int | float]],
    thefts: int = 0,
    beacon: str | None = None,
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
        beacon: Name of the public value that is to draw the victim among the given model and its twins; None if
            the given model is the victim.

    Raises:
        BadInput: The victim or the pools cannot be used, or the folder holds another study.
    """
    model, card = folder.load(victim), folder.read_card(victim)
    untrained(pools["reference"], known_rows(pools))
    if thefts and (thefts < 2 or "unseen" not in pools or not isinstance(model.family, Architecture)):
        raise BadInput("simulated thefts need a network, unseen images, and to be at least two")
    if thefts and beacon is not None:
        raise BadInput(
            "a victim that is drawn later may itself be among the simulated thefts: leave one of both out"
        )
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
        models=(model_hash(card),),
        beacon=beacon,
    )
    if (study / PLAN).exists():
        old = read(study)
        if replace(new, secret=old.secret, models=(*new.models, *old.models[1:])) != old:
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
        content = read_bytes(path, TEXT)
        plan = PLANS.validate_json(content)
    except OSError as error:
        raise BadInput(
            f"{path}: {error.strerror}; expected a folder made by `mlaas-range prove prepare`"
        ) from None
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        raise BadInput(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    if plan.to_json() != content:
        raise BadInput(f"{path} was changed, or is of another version")
    return plan


def read_pools(study: Path, plan: Plan) -> dict[str, Pool]:
    """Reads the pools of a study, or raises :class:`~wire.BadInput` if they are not those of the plan."""
    pools = {name: Pool.load(study / f"{name}.npz") for name in plan.pools}
    for name, pool in pools.items():
        if pool.fingerprint != plan.pools[name]:
            raise BadInput(f"{study / name}.npz does not hold the rows to which {PLAN} commits")
    return pools


def root_of(study: Path) -> str:
    """Returns the commitment to a study, in hexadecimal."""
    return read(study).entry.root


def draw(study: Path, value: str) -> int:
    """Keeps the value of the beacon that draws the victim, and returns the victim's number.

    Raises:
        BadInput: The commitment names no beacon, another value was kept, or the value is not hexadecimal, or not
            that of the round of drand.
    """
    plan, path = read(study), study / BEACON
    if plan.beacon is None:
        raise BadInput(f"{study} names no beacon: its victim is the model that it was prepared for")
    if (round_ := drand.round_of(plan.beacon)) is not None:
        drand.check(round_, value)
    number = drawn_victim(value, plan.entry.root, 1 + plan.twins)
    if path.exists() and path.read_text() != value:
        raise BadInput(f"{path} has another value of the beacon: a victim is drawn once")
    path.write_text(value)
    return number


def victim_of(study: Path, plan: Plan) -> int:
    """Returns the number of the victim: 0, unless a beacon draws it.

    Raises:
        BadInput: The beacon's value is not known.
    """
    if plan.beacon is None:
        return 0
    try:
        value = read_bytes(study / BEACON, TEXT).decode()
    except (OSError, UnicodeDecodeError):
        raise BadInput(f"{study}: its victim is drawn by {plan.beacon}: run `mlaas-range prove draw`") from None
    return drawn_victim(value, plan.entry.root, 1 + plan.twins)


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
    for path, model in zip(paths, plan.models, strict=True):
        if model_hash(folder.read_card(path)) != model:
            raise BadInput(f"{path} does not hold the model to which {PLAN} commits")
    victim = victim_of(study, plan)
    seed = plan.recipe(victim).seed if victim or plan.seed is not None else 0
    return Twins(
        models=[_reading(path) for path in paths[: 1 + plan.twins]],
        victim=victim,
        card=folder.read_card(paths[0]).takes(),
        reference=untrained(pools["reference"], known_rows(pools)),
        root=plan.entry.root,
        settings=plan.settings,
        guessable_seed=seed < GUESSABLE,
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
    """Returns the folders of all models, in the order of the plan's models."""
    models = [model_folder(study, number) for number in range(1 + plan.twins)]
    return models + [theft_folder(study, 1 + number) for number in range(plan.thefts)]


def _reading(path: Path) -> Predict:
    return partial(_predict, path)


def _predict(path: Path, x: Array) -> Array:
    return folder.load(path).predict(x)
