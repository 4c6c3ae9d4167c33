"""Makes many things that do not depend on one another, several at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

import numpy as np
import torch
from tqdm import tqdm

from wire import Array, Feature
from zoo.data.pool import Pool
from zoo.executors import LOSSES, executor_of
from zoo.model import Model
from zoo.recipe import Recipe, kept, path_of, trained


def at_once(
    calls: Sequence[Callable[[], object]], jobs: int, executor: str = "processes", folder: Path | None = None
) -> Iterator[None]:
    """Makes calls, which are pickled, in up to ``jobs`` processes of one thread each; yields as each ends.

    What a killed process was at is done again by another one.

    Args:
        calls: The calls.
        jobs: Number of processes; with one, calls are made in this process, also with one thread.
        executor: As in :func:`~zoo.executors.executor_of`.
        folder: Likewise; by default, the system's folder for temporary files.

    Raises:
        BrokenExecutor: Processes were lost again and again, and nothing was made in between.
    """
    left, losses = dict(enumerate(calls)), 0
    if executor == "processes" and (jobs == 1 or len(calls) < 2):
        with _one_thread():
            for call in calls:
                call()
                yield
        return
    while left:
        pool, broken = executor_of(executor, min(jobs, len(left)), folder or Path(gettempdir())), None
        try:
            futures = {pool.submit(call): number for number, call in left.items()}
            for done in as_completed(futures):
                fault = done.exception()
                if isinstance(fault, BrokenExecutor):
                    broken = fault
                    continue
                done.result()
                del left[futures[done]]
                losses = 0
                yield
        except BrokenExecutor as fault:  # while calls were still being submitted
            broken = fault
        finally:
            pool.shutdown(cancel_futures=True)
        losses += 1
        if broken and losses > LOSSES:
            raise broken


def train_all(
    recipes: Sequence[Recipe],
    pool: Pool,
    rows: Sequence[Array],
    cache: Path,
    *,
    jobs: int = 1,
    executor: str = "processes",
    label: str = "",
) -> list[Model]:
    """Returns the model of each recipe from the cache, after training those that are missing.

    On machines of one kind, the models depend neither on the number of processes nor on the executor. Several
    calls, in several processes, share the work, and an interrupted one goes on where it was.

    Args:
        recipes: The recipes.
        pool: Labelled rows.
        rows: Indices of the rows that train each model.
        cache: The cache folder; workers on other machines need it at the same path.
        jobs: Number of processes, which train a model each.
        executor: Where they run; see :func:`~zoo.executors.executor_of`.
        label: Name of the progress bar.
    """
    given = list(zip(recipes, rows, strict=True))
    missing = [of for of in given if not path_of(of[0], pool.take(of[1]), cache).exists()]
    if missing:
        cache.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".sweep-", dir=cache) as folder:
            shared = Shared.of(pool, Path(folder))
            calls = [partial(_train, shared, *of, cache.resolve()) for of in missing]
            made = at_once(calls, jobs, executor, Path(folder))
            for _ in tqdm(made, total=len(missing), desc=label, unit="model", leave=False, dynamic_ncols=True):
                pass
    with _one_thread():  # what other processes began is waited for here
        return [trained(recipe, pool.take(chosen), cache) for recipe, chosen in given]


@dataclass(frozen=True)
class Shared:
    """Rows in files that processes map into memory, so that none is sent to them.

    Attributes:
        folder: The folder of the files.
        class_names: As in :class:`Pool`.
        missing: Likewise.
        features: Likewise.
    """

    folder: Path
    class_names: tuple[str, ...]
    missing: bool
    features: tuple[Feature, ...]

    @classmethod
    def of(cls, pool: Pool, folder: Path) -> Shared:
        """Writes a pool to a folder; texts, which cannot be mapped, as :meth:`Pool.save` does."""
        if pool.dtype == "BYTES":
            pool.save(folder / "texts.npz")
        else:
            np.save(folder / "x.npy", pool.x, allow_pickle=False)
            if pool.y is not None:
                np.save(folder / "y.npy", pool.y, allow_pickle=False)
        return cls(folder.resolve(), pool.class_names, pool.missing, pool.features)

    def read(self) -> Pool:
        """Returns the pool, whose rows all processes of a machine have in memory once."""
        texts = self.folder / "texts.npz"
        if texts.exists():
            return Pool.load(texts)
        x, y = (self.folder / name for name in ("x.npy", "y.npy"))
        labels = np.load(y, mmap_mode="r", allow_pickle=False) if y.exists() else None
        mapped = np.load(x, mmap_mode="r", allow_pickle=False)
        return Pool(mapped, labels, self.class_names, self.missing, self.features)


def _train(shared: Shared, recipe: Recipe, rows: Array, cache: Path) -> None:
    kept(recipe, _read(shared).take(rows), cache, wait=False, label="model")


@lru_cache(maxsize=1)
def _read(shared: Shared) -> Pool:
    return shared.read()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Computes with one thread, as other processes do: with more, sums would be added in another order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
