"""Trains the twins of a study, several at a time."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path

import torch
from tqdm import tqdm

from owner.twins import study as studies
from owner.twins.study import Plan
from zoo import folder
from zoo.cache import once
from zoo.data.pool import Pool

PROBE = 1000  # rows


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
    """Trains the missing twins of a study, and returns its complete plan.

    An interrupted training goes on with the twins that are not yet there.

    Args:
        study: The folder of the study.
        jobs: Number of processes, which train a twin each.
    """
    plan = studies.read(study)
    numbers = range(1, plan.twins + 1)
    bar = tqdm(total=plan.twins, desc="twins", unit="twin", dynamic_ncols=True)
    with bar:
        for _ in _trained(study, [number for number in numbers if not _there(study, number)], jobs):
            bar.update()
    weights = [folder.read_card(studies.model_folder(study, number)).sha256 for number in (0, *numbers)]
    plan = replace(plan, weights=tuple(weights))
    studies.write(study, plan)
    return plan


def missing(study: Path, plan: Plan) -> int:
    """Returns the number of twins that are not yet trained."""
    return sum(not _there(study, number) for number in range(1, plan.twins + 1))


def cores() -> int:
    """Returns the number of processes to train with: that of the usable cores, or 1 for a GPU."""
    if torch.cuda.is_available():
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _there(study: Path, number: int) -> bool:
    return studies.model_folder(study, number).exists()


def _trained(study: Path, numbers: list[int], jobs: int) -> Iterator[None]:
    if jobs == 1:
        for number in numbers:
            _train(study, number)
            yield
        return
    spawn = multiprocessing.get_context("spawn")  # forked processes must not use torch's threads
    with ProcessPoolExecutor(min(jobs, len(numbers) or 1), spawn, _one_thread) as pool:
        for done in as_completed([pool.submit(_train, study, number) for number in numbers]):
            done.result()
            yield


def _one_thread() -> None:
    os.environ["TQDM_DISABLE"] = "1"
    torch.set_num_threads(1)


def _train(study: Path, number: int) -> None:
    def make(path: Path) -> None:
        plan = studies.read(study)
        rows = plan.rows_of(number, studies.known_rows(studies.read_pools(study, plan)))
        recipe = plan.recipe(number)
        folder.save(recipe.train(rows, label=f"twin {number}"), path, seed=recipe.seed, rows=len(rows))

    once(studies.model_folder(study, number), make)
