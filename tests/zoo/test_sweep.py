"""Sweeps: whichever executor trains, and whatever it loses, the files are the same."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import BrokenExecutor, Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from wire import BadInput
from zoo.data import Pool
from zoo.data.pool import texts
from zoo.executors import LOSSES, executor_of
from zoo.families.mlp import Mlp
from zoo.recipe import Recipe, kept
from zoo.sweep import Shared, at_once, train_all
from zoo.training import Training

KILLS, EPOCHS = 20, 200


def pool(rows: int = 400) -> Pool:
    rng = np.random.default_rng(1)
    return Pool(rng.random((rows, 30), dtype=np.float32), rng.integers(0, 3, rows), ("a", "b", "c"))


def sweep_of(models: int, epochs: int) -> tuple[list[Recipe], list[np.ndarray]]:
    recipes = [Recipe(Mlp((64,)), Training(epochs=epochs), seed) for seed in range(models)]
    return recipes, [np.random.default_rng(seed).permutation(400)[:200] for seed in range(models)]


def train(cache: Path, models: int, epochs: int = 2, **options: Any) -> None:
    recipes, rows = sweep_of(models, epochs)
    train_all(recipes, pool(), rows, cache, **options)


def files(cache: Path) -> dict[str, bytes]:
    """Returns all files of the models in a cache, and that nothing else was left."""
    assert [path.name for path in cache.iterdir()] == ["models"]
    return {str(path.relative_to(cache)): path.read_bytes() for path in cache.rglob("*") if path.is_file()}


def trained_by_a_second(flag: Path, number: int, cache: Path) -> None:
    """Trains a model in the cache, but kills its process if no other one was killed before."""
    if not flag.exists():
        flag.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    recipes, rows = sweep_of(number + 1, 2)
    kept(recipes[number], pool().take(rows[number]), cache)


def refused() -> None:
    raise BadInput("no such thing")


def test_one_process_trains_with_one_thread_and_leaves_the_others_as_they_were(tmp_path):
    seen, threads = [], torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for _ in at_once([lambda: seen.append(torch.get_num_threads())], 1):
            pass
        assert (seen, torch.get_num_threads()) == ([1], 2)
    finally:
        torch.set_num_threads(threads)


def test_processes_train_the_same_files_and_what_a_killed_one_was_at_is_done_again(tmp_path):
    train(tmp_path / "one", 3)
    calls = [partial(trained_by_a_second, tmp_path / "killed", number, tmp_path / "two") for number in range(3)]
    assert len(list(at_once(calls, 2))) == 3
    assert (tmp_path / "killed").exists()
    assert len(files(tmp_path / "one")) == 2 * 3
    assert files(tmp_path / "one") == files(tmp_path / "two")


class Losing(ThreadPoolExecutor):
    """Loses every call."""

    def submit(self, fn: Callable[[], object]) -> Future[object]:  # type: ignore[override]
        future = Future[object]()
        future.set_exception(BrokenExecutor("a worker was lost"))
        return future


def test_a_call_that_always_loses_its_worker_is_given_up(monkeypatch):
    made = []
    monkeypatch.setattr("zoo.sweep.executor_of", lambda *given: made.append(given) or Losing())
    with pytest.raises(BrokenExecutor, match="a worker was lost"):
        list(at_once([int, int], 2))
    assert len(made) == LOSSES + 1


def test_an_error_of_a_call_is_raised(monkeypatch):
    monkeypatch.setattr("zoo.sweep.executor_of", lambda *given: ThreadPoolExecutor(1))
    with pytest.raises(BadInput, match="no such thing"):
        list(at_once([int, refused], 2))


def test_what_is_there_is_not_trained_again(tmp_path, monkeypatch):
    recipes, rows = sweep_of(3, 2)
    for recipe, chosen in zip(recipes[:2], rows[:2], strict=True):
        kept(recipe, pool().take(chosen), tmp_path)
    trained, fit = [], Recipe.train
    monkeypatch.setattr(
        Recipe, "train", lambda self, *given, **more: trained.append(self) or fit(self, *given, **more)
    )
    train(tmp_path, 3)
    assert trained == recipes[2:]


@pytest.mark.parametrize("given", [pool(), Pool(texts(["a", "b"]), np.array([0, 1]), ("x", "y"))])
def test_shared_rows_are_the_same(tmp_path, given):
    shared = Shared.of(given, tmp_path)
    assert shared.read().fingerprint == given.fingerprint
    assert given.dtype == "BYTES" or isinstance(shared.read().x, np.memmap)


@pytest.mark.parametrize("name", ["", "dask", "ray+tls://x"])
def test_other_executors_are_refused(name, tmp_path):
    with pytest.raises(BadInput, match="expected processes, ray"):
        executor_of(name, 1, tmp_path)


def test_what_a_missing_extra_needs_is_said(tmp_path, monkeypatch):
    for module in ("ray", "submitit"):
        monkeypatch.setitem(sys.modules, module, None)
    for name in ("ray", "slurm"):
        with pytest.raises(BadInput, match=r"mlaas-range\[sweep\]"):
            executor_of(name, 1, tmp_path)


SWEEP = """
import sys
from pathlib import Path
from test_sweep import EPOCHS, cluster_of, train

if __name__ == "__main__":
    with cluster_of(2 * (sys.argv[2] == "ray")):
        train(Path(sys.argv[1]), 12, EPOCHS, jobs=2, executor=sys.argv[2])
"""


@contextmanager
def cluster_of(nodes: int) -> Iterator[None]:
    """Runs a Ray cluster of nodes with a processor each; none if 0."""
    if not nodes:
        yield
        return
    from ray.cluster_utils import Cluster

    cluster = Cluster()
    for _ in range(nodes):
        cluster.add_node(num_cpus=1, object_store_memory=100 * 2**20, include_dashboard=False)
    os.environ["RAY_ADDRESS"] = cluster.address
    try:
        yield
    finally:
        cluster.shutdown()


def started(folder: Path, executor: str) -> psutil.Popen:
    """Starts a sweep of 12 models, of seconds each, in a process of its own."""
    (folder / "script.py").write_text(SWEEP)
    paths = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[2])])
    command = [sys.executable, str(folder / "script.py"), str(folder / "cache"), executor]
    return psutil.Popen(command, env={**os.environ, "PYTHONPATH": paths})


def called(process: psutil.Process) -> str:
    """Returns a process's command line; nothing of one that is gone, such as the raylet of a lost node."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def killed(sweep: psutil.Popen, cache: Path, named: str, after: Mapping[int, Callable[[], object]]) -> int:
    """Kills 20 workers of a sweep, whose command line has a name: two for each model that is made, at any moment.

    Calls functions after some; returns how many were killed before the sweep ended.
    """
    rng, kills = np.random.default_rng(3), 0
    while sweep.poll() is None:
        time.sleep(rng.uniform(0, 1))
        with suppress(psutil.NoSuchProcess):
            workers = [child for child in sweep.children(recursive=True) if named in called(child)]
            made = len([path for path in (cache / "models").glob("*") if not path.name.startswith(".")])
            if workers and kills < min(KILLS, 2 * (made + 1)):
                workers[rng.integers(len(workers))].kill()
                kills += 1
                after.get(kills, int)()
    return kills


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("undisturbed")
    assert started(folder, "processes").wait(1200) == 0
    return files(folder / "cache")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_twenty_killed_processes_lose_no_model_and_change_none(tmp_path, undisturbed):
    sweep = started(tmp_path, "processes")
    assert killed(sweep, tmp_path / "cache", "spawn_main", {}) == KILLS
    assert sweep.returncode == 0
    assert files(tmp_path / "cache") == undisturbed


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_twenty_killed_jobs_of_submitit_lose_no_model_and_change_none(tmp_path, undisturbed):
    pytest.importorskip("submitit")
    sweep = started(tmp_path, "submitit")
    assert killed(sweep, tmp_path / "cache", "submitit.core._submit", {}) == KILLS
    assert sweep.returncode == 0
    assert files(tmp_path / "cache") == undisturbed


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_ray_cluster_loses_twenty_workers_and_one_of_two_nodes_but_no_model(tmp_path, undisturbed):
    pytest.importorskip("ray")
    sweep = started(tmp_path, "ray")

    def lose_a_node() -> None:
        nodes = [child for child in sweep.children(recursive=True) if child.name() == "raylet"]
        assert len(nodes) == 2
        max(nodes, key=psutil.Process.create_time).kill()

    assert killed(sweep, tmp_path / "cache", "ray::settled", {10: lose_a_node}) == KILLS
    assert sweep.returncode == 0
    assert files(tmp_path / "cache") == undisturbed
