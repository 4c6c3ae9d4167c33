"""Where calls run: in processes of this machine, on a Ray cluster, or as jobs of Slurm.

All are executors of the standard library (:mod:`concurrent.futures`). They keep no queue of their own beyond what
the library behind them has.
"""

from __future__ import annotations

import ctypes
import logging
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch

from wire import BadInput

T = TypeVar("T")
LOSSES = 10  # workers that one call may lose, one after another, before it is given up
MINUTES = 24 * 60  # that Slurm allows a call
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of malloc.h


def executor_of(where: str, jobs: int, folder: Path) -> Executor:
    """Returns an executor, to be used as a context.

    Workers on other machines need this package, and the folders that calls name, at the same paths.

    Args:
        where: ``processes``, which run here; ``ray`` or ``ray://HOST:PORT``, a Ray cluster that is started here or
            runs already; ``slurm`` or ``slurm://PARTITION``; ``submitit``, which runs here what Slurm would.
        jobs: Calls at a time; on Ray, as many as the cluster has processors.
        folder: Where Slurm's jobs keep their calls and logs; all machines can read it.

    Raises:
        BadInput: There is no such executor, or it needs an extra that is not installed.
    """
    scheme, _, place = where.partition("://")
    if where == "processes":
        spawn = multiprocessing.get_context("spawn")  # forked processes must not use torch's threads
        return ProcessPoolExecutor(jobs, spawn, settle)
    try:
        if scheme == "ray":
            return RayExecutor(where if place else os.environ.get("RAY_ADDRESS"))
        if scheme in ("slurm", "submitit"):
            return SlurmExecutor(jobs, folder, "slurm" if scheme == "slurm" else "local", place)
    except ModuleNotFoundError as error:
        raise BadInput(f"{error}; executor {where!r} needs: pip install 'mlaas-range[sweep]'") from None
    raise BadInput(f"executor {where!r}: expected processes, ray, ray://HOST:PORT, slurm or slurm://PARTITION")


class RayExecutor(Executor):
    """Calls are tasks of Ray, which starts those of lost workers and machines again."""

    def __init__(self, address: str | None) -> None:
        """Connects to a cluster; without an address, starts one on this machine."""
        import ray

        self._ray, self._own = ray, not ray.is_initialized()
        if self._own:
            ray.init(address, log_to_driver=False, logging_level=logging.WARNING)
        self._run: Any = ray.remote(num_cpus=1, max_retries=LOSSES)(settled)

    def submit(self, fn: Callable[..., T], /, *args: Any, **options: Any) -> Future[T]:
        """Starts a call as soon as the cluster has a free processor."""
        future: Future[T] = self._run.remote(partial(fn, *args, **options)).future()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Leaves the cluster, and what still runs there."""
        if self._own:
            self._ray.shutdown()


class SlurmExecutor(ThreadPoolExecutor):
    """Calls are jobs of Slurm, each submitted and waited for by a thread; lost ones are submitted again."""

    def __init__(self, jobs: int, folder: Path, cluster: str, partition: str) -> None:
        """Names a folder for the jobs' calls and logs, and the partition; empty for the default one."""
        import submitit

        super().__init__(jobs)
        self._errors = submitit.core.utils
        self._slurm = submitit.AutoExecutor(folder / "%j", cluster=cluster)
        self._slurm.update_parameters(cpus_per_task=1, timeout_min=MINUTES)
        if partition:
            self._slurm.update_parameters(slurm_partition=partition)

    def submit(self, fn: Callable[..., T], /, *args: Any, **options: Any) -> Future[T]:
        """Submits a call as soon as fewer than ``jobs`` are under way."""
        return super().submit(self._result, partial(fn, *args, **options))

    def _result(self, call: Callable[[], T]) -> T:
        for losses in range(LOSSES + 1):
            job = self._slurm.submit(settled, call)
            try:
                result: T = job.result()
                return result
            except self._errors.FailedJobError:  # the call itself failed
                raise
            except self._errors.UncompletedJobError:
                if losses == LOSSES:
                    raise
        raise AssertionError


def settled(call: Callable[[], T]) -> T:
    """Makes a call in a settled process (:func:`settle`)."""
    settle()
    return call()


def settle() -> None:
    """Gives a process one thread, no progress bars, and the memory of one training step for the next."""
    os.environ["TQDM_DISABLE"] = "1"
    torch.set_num_threads(1)
    keep_memory()


def keep_memory() -> None:
    """Lets glibc keep the memory of a pass for the next one, which saves torch a sixth to a third of its time.

    Measured on a ResNet. Other C libraries have no such switches.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, 32 * 2**20)  # the greatest value that every glibc accepts
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)
