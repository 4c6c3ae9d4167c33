"""Makes many things that do not depend on one another, several at a time."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import lru_cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from tqdm import tqdm

from wire import Array
from zoo.data.pool import Pool
from zoo.model import Model
from zoo.recipe import Recipe, kept, path_of, trained


def at_once(calls: Sequence[Callable[[], object]], jobs: int) -> Iterator[None]:
    """Makes calls in up to ``jobs`` processes of one thread each, which pickles them; yields as each ends."""
    if jobs == 1 or len(calls) < 2:
        for call in calls:
            call()
            yield
        return
    spawn = multiprocessing.get_context("spawn")  # forked processes must not use torch's threads
    with ProcessPoolExecutor(min(jobs, len(calls)), spawn, _one_thread) as pool:
        for done in as_completed([pool.submit(call) for call in calls]):
            done.result()
            yield


def train_all(
    recipes: Sequence[Recipe], pool: Pool, rows: Sequence[Array], cache: Path, *, jobs: int = 1, label: str = ""
) -> list[Model]:
    """Returns the model of each recipe from the cache, after training those that are missing.

    The models do not depend on the number of processes. Several calls, in several processes, share the work.

    Args:
        recipes: The recipes.
        pool: Labelled rows.
        rows: Indices of the rows that train each model.
        cache: The cache folder.
        jobs: Number of processes, which train a model each.
        label: Name of the progress bar.
    """
    given = list(zip(recipes, rows, strict=True))
    missing = [of for of in given if not path_of(of[0], pool.take(of[1]), cache).exists()]
    if missing:
        with TemporaryDirectory() as shared:
            file = Path(shared) / "pool.npz"
            pool.save(file)  # a process reads all rows once, which costs less than to send it those of each model
            made = at_once([partial(_train, file, *of, cache) for of in missing], jobs)
            for _ in tqdm(made, total=len(missing), desc=label, unit="model", leave=False, dynamic_ncols=True):
                pass
    # What other processes began is waited for here.
    return [trained(recipe, pool.take(chosen), cache) for recipe, chosen in given]


def _train(file: Path, recipe: Recipe, rows: Array, cache: Path) -> None:
    kept(recipe, _read(file).take(rows), cache, wait=False, label="model")


@lru_cache(maxsize=1)
def _read(file: Path) -> Pool:
    return Pool.load(file)


def _one_thread() -> None:
    os.environ["TQDM_DISABLE"] = "1"
    torch.set_num_threads(1)
