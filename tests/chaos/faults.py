"""Faults: what is done to a cluster, at times and places that a seed chooses."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from cluster import Cluster, Server, send

STEPS = (-250.0, -5.0, 5.0, 250.0)  # seconds; a clock that jumps by ten minutes forgets requests' ids


@dataclass(frozen=True)
class Fault:
    """A fault that was injected.

    Attributes:
        kind: Its kind.
        recovered: Seconds from its end (or from a kill) until all servers answered again.
    """

    kind: str
    recovered: float


class Faults:
    """Injects faults into a cluster."""

    def __init__(self, cluster: Cluster, seed: int) -> None:
        """Takes the cluster and the seed of the choices."""
        self._cluster, self.rng = cluster, random.Random(seed)
        self.kinds: dict[str, Callable[[], Awaitable[None]]] = {
            "kill a server": self._kill_server,
            "pause a process": self._pause,
            "step a clock": self._step,
        }
        if cluster.redis:
            self.kinds |= {"kill a worker": self._kill_worker, "kill the store": self._kill_store}
        else:
            self.kinds |= {"fill the disk": self._fill}

    def draw(self) -> str:
        """Returns the kind of the next fault; a server takes longest to start."""
        weights = [1 if kind == "kill a server" else 2 for kind in self.kinds]
        return self.rng.choices([*self.kinds], weights)[0]

    async def _kill_server(self) -> None:
        server = self._server()
        server.kill()
        server.start()

    async def _kill_worker(self) -> None:
        if workers := self._server().pids():
            send(self.rng.choice(workers), signal.SIGKILL)

    async def _kill_store(self) -> None:
        assert self._cluster.redis
        self._cluster.redis.kill()
        await asyncio.sleep(self.rng.uniform(0, 0.5))
        self._cluster.redis.start()

    async def _pause(self) -> None:
        processes = [pid for server in self._cluster.servers for pid in server.pids()]
        if self._cluster.redis:
            processes += 2 * self._cluster.redis.everything()
        if processes:
            stopped = self.rng.choice(processes)
            send(stopped, signal.SIGSTOP)
            await asyncio.sleep(self.rng.choice((0.2, 0.5, 1.5, 3.0)))
            send(stopped, signal.SIGCONT)

    async def _step(self) -> None:
        server = self._server()
        server.step(self.rng.choice(STEPS))
        await asyncio.sleep(self.rng.uniform(0.2, 1.0))
        server.step(0.0)

    async def _fill(self) -> None:
        server = self._server()
        server.fill_disk(full=True)
        await asyncio.sleep(self.rng.uniform(0.2, 1.5))
        server.fill_disk(full=False)

    def _server(self) -> Server:
        return self.rng.choice(self._cluster.servers)
