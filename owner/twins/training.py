"""Trains the twins of a study, several at a time."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from owner.twins import study as studies
from owner.twins.plan import Plan, model_hash
from owner.twins.twins import untrained
from zoo import folder
from zoo.cache import once
from zoo.data.pool import Pool
from zoo.families import Architecture
from zoo.model import Model
from zoo.network import Network
from zoo.sweep import at_once

PROBE = 1000  # rows
THEFT = 10**6  # thefts have numbers beyond those of twins, and so other seeds


def minutes(plan: Plan, known: Pool, twins: int, jobs: int) -> float:
    """Estimates how long it takes to train twins, by training on a few rows.

    Args:
        plan: The plan of the study.
        known: All rows of the owner.
        twins: Number of twins to train.
        jobs: Number of processes.
    """
    probe, recipe = plan.rows_of(1, known).take(slice(PROBE)), plan.recipe(1)
    epochs = max(recipe.training.epochs, 1)
    recipe = replace(recipe, training=replace(recipe.training, epochs=1))
    recipe.train(probe.take(slice(PROBE // 10)))  # what the first use of a library costs
    start = time.perf_counter()
    recipe.train(probe)
    passes = plan.rows / len(probe) * epochs
    return (time.perf_counter() - start) * passes * -(-twins // jobs) / 60


def train(study: Path, jobs: int) -> Plan:
    """Trains the missing models of a study, and returns its complete plan.

    An interrupted training goes on with the models that are not yet there.

    Args:
        study: The folder of the study.
        jobs: Number of processes, which train a model each.
    """
    plan = studies.read(study)
    with tqdm(total=plan.twins + plan.thefts, desc="models", unit="model", dynamic_ncols=True) as bar:
        bar.update(plan.twins + plan.thefts - missing(study, plan))
        for folders, make in (
            ([studies.model_folder(study, 1 + number) for number in range(plan.twins)], _train_twin),
            ([studies.theft_folder(study, 1 + number) for number in range(plan.thefts)], _train_theft),
        ):
            for _ in at_once([partial(make, study, path) for path in folders if not path.exists()], jobs):
                bar.update()
    models = [model_hash(folder.read_card(path)) for path in studies.model_folders(study, plan)]
    plan = replace(plan, models=tuple(models))
    studies.write(study, plan)
    return plan


def trained(plan: Plan, number: int, pools: Mapping[str, Pool]) -> Model:
    """Trains a twin, or the victim, number 0, as its plan says."""
    rows = plan.rows_of(number, studies.known_rows(pools)) if number else pools["private"]
    return plan.recipe(number).train(rows, label=f"twin {number}" if number else "victim")


def stolen(study: Path, plan: Plan, number: int) -> Model:
    """Steals a twin with the reference rows: thefts of odd numbers by probabilities, the others by labels."""
    recipe, pools = plan.recipe(THEFT + number), studies.read_pools(study, plan)
    robbed = folder.load(studies.model_folder(study, plan.robbed(number)))
    x = untrained(pools["reference"], studies.known_rows(pools)).x
    probs = robbed.predict(x)
    assert isinstance(recipe.family, Architecture)
    thief = Network.untrained(recipe.family, robbed.card(), seed=recipe.seed)
    y = probs if number % 2 else probs.argmax(axis=1).astype(np.int64)
    return thief.fit(x, y, recipe.training, seed=recipe.seed, label=f"theft {number}")


def missing(study: Path, plan: Plan) -> int:
    """Returns the number of twins and simulated thefts that are not yet trained."""
    return sum(not path.exists() for path in studies.model_folders(study, plan))


def cores() -> int:
    """Returns the number of processes to train with: that of the usable cores, or 1 for a GPU."""
    if torch.cuda.is_available():
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _train_twin(study: Path, path: Path) -> None:
    def make(made: Path) -> None:
        number, plan = _number(path), studies.read(study)
        model = trained(plan, number, _pools(study, studies.root_of(study)))
        folder.save(model, made, seed=plan.recipe(number).seed, rows=plan.rows)

    once(path, make)


@lru_cache(maxsize=1)
def _pools(study: Path, root: str) -> dict[str, Pool]:
    """Reads the pools of a study once for all twins that this process trains; ``root`` tells studies apart."""
    return studies.read_pools(study, studies.read(study))


def _train_theft(study: Path, path: Path) -> None:
    once(path, lambda made: folder.save(stolen(study, studies.read(study), _number(path)), made))


def _number(path: Path) -> int:
    return int(path.name.rpartition("-")[2])
