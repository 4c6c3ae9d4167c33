"""Several workers on one GPU, a worker that is killed, and a pass without memory.

``python -m benchmarks.gpu.workers SECONDS``
"""

from __future__ import annotations

import contextlib
import itertools
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil
import torch

from benchmarks.gpu.models import MODELS, Model, emit, smi
from benchmarks.gpu.served import loaded, serve
from benchmarks.serving.servers import Place, start_redis
from experiments.parties import Parties, Server
from experiments.processes import process_tree
from server.deployment.cuda import Lanes
from zoo.families.mlp import Mlp
from zoo.network import Network

WORKERS = (1, 2, 4)
LOADS = (("cnn", 64, 32), ("cnn", 1, 256), ("resnet", 64, 32))  # model, rows of a request, connections
ROUNDS = 3
PATIENCE = 60.0  # seconds for a replacement


def main() -> None:
    """Measures one to four workers, then what a kill and a lack of memory do."""
    seconds = float(sys.argv[1])
    served = {name: MODELS[name] for name, _, _ in LOADS}
    for count in WORKERS:
        workers(served, count, seconds, "cuda")
    short_of_memory("cuda")


def workers(models: dict[str, Model], count: int, seconds: float, device: str) -> None:
    """Measures a number of workers that share a Redis; kills one of several."""
    with contextlib.ExitStack() as ending:
        parties = ending.enter_context(Parties())
        (parties.folder / "redis").mkdir()
        port, _ = start_redis(Place(parties, parties.folder), parties.folder / "redis", ending)
        start = time.monotonic()
        server, keys = serve(parties, device, models, workers=count, store=f"redis://127.0.0.1:{port}/0")
        emit(workers=count, ready_after=time.monotonic() - start, mebibytes=_memory(server))
        for number, (name, rows, connections) in itertools.product(range(ROUNDS), LOADS):
            told = loaded(server, keys, name, models[name].rows(rows), connections, seconds)
            emit(workers=count, round=number, model=name, rows=rows, connections=connections, **told)
        if count > 1:
            _kill(server, keys, next(iter(models)), count, seconds)


def _kill(server: Server, keys: list[str], name: str, count: int, seconds: float) -> None:
    """Kills a worker under load, and waits until all workers serve again."""
    with ThreadPoolExecutor(1) as pool:
        under_load = pool.submit(loaded, server, keys, name, MODELS[name].rows(1), 32, 2 * seconds)
        time.sleep(seconds)
        psutil.Process(_workers(server)[0]).kill()
        killed = time.monotonic()
        time.sleep(0.2)  # until the parent has seen it
        while server.client.get(f"{server.url}/v2/health/ready").status_code != 200:
            if time.monotonic() > killed + PATIENCE:
                break
            time.sleep(0.05)
        emit(workers=count, killed=1, all_ready_after=time.monotonic() - killed, **under_load.result())
    emit(workers=count, mebibytes=_memory(server))


def _workers(server: Server) -> list[int]:
    """Returns the processes that serve, children of the server's fork server."""
    return [member.pid for member in process_tree(server.pid)[1:] if member.ppid() != server.pid]


def _memory(server: Server) -> dict[str, int]:
    """Returns the GPU's memory by process, and all that is in use."""
    own = {str(process.pid) for process in process_tree(server.pid)}
    by_process = {
        pid: int(used) for pid, used in smi("compute-apps", "pid", "used_memory") if pid in own and used.isdigit()
    }
    return by_process | {"in use": sum(int(used) for (used,) in smi("gpu", "memory.used"))}


class Greedy(torch.nn.Module):
    """Takes more memory than there is for rows above 0.5."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Returns logits, ``(n, 2)``."""
        if rows.max() > 0.5:
            held = torch.zeros(2**28, device=rows.device)
            torch.zeros(2**48, device=rows.device).add_(held)
        return torch.cat([rows, -rows], dim=1)


def short_of_memory(device: str) -> None:
    """Runs passes of which every fourth is short of memory; tells how many failed and were answered rightly."""
    network = Network.new(Mlp((4,)), (1,), ("low", "high"), seed=0, device=device)
    network.module = Greedy()
    lanes = Lanes(network, np.zeros((2, 1), np.float32), name="greedy", sizes=(8,))

    def ask(number: int) -> str:
        x = np.full((8, 1), 0.25 if number % 4 else 1.0, np.float32)
        try:
            probs = lanes([x])
        except MemoryError:
            return "failed for lack of memory"
        return "answered rightly" if np.allclose(probs[:, 0], 1 / (1 + np.exp(-0.5)), atol=1e-6) else "wrong"

    before = torch.cuda.memory_reserved()
    with ThreadPoolExecutor(2) as pool:
        answers = Counter(pool.map(ask, range(40)))
    emit(passes=40, short_of_memory=10, answers=answers, kept_bytes=torch.cuda.memory_reserved() - before)


if __name__ == "__main__":
    main()
