"""The parties as processes of their own, which know one another by URL and key."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import httpx
from tqdm import tqdm

from wire import Unreachable

_CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("MLAAS_")}


class Failed(Unreachable):
    """A party's process failed; the message ends with the last line of its log."""


@dataclass(frozen=True)
class Job:
    """One client's command.

    Attributes:
        name: What the progress bar and the log call it.
        arguments: The command behind ``python -m``.
        folder: The party's folder, where the command runs and beyond which it is told of nothing.
        environment: ``MLAAS_URL``, ``MLAAS_KEY`` and the like.
    """

    name: str
    arguments: Sequence[str]
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Server:
    """A server that was started.

    Attributes:
        url: Where it listens.
        admin: An administrator's key.
        client: Connections to it; making a client takes longer than a request.
    """

    url: str
    admin: str
    client: httpx.Client = field(repr=False)

    def account(self, name: str, plan: str) -> str:
        """Makes an account and returns its key."""
        reply = self.client.post(
            f"{self.url}/admin/accounts", json={"name": name, "plan": plan}, headers=self._headers
        )
        reply.raise_for_status()
        return str(reply.json()["key"])

    def ledgers(self) -> dict[str, dict[str, int]]:
        """Returns rows, requests and micro-cents of each account, as the server has them."""
        reply = self.client.get(f"{self.url}/admin/accounts", headers=self._headers)
        reply.raise_for_status()
        entries = ("rows", "requests", "micro_cents")
        return {account["account"]: {entry: account[entry] for entry in entries} for account in reply.json()}

    def alarms(self) -> list[dict[str, Any]]:
        """Returns the alarms that stand: ``account``, ``model``, ``detector``, ``row``, ``statistic`` and more."""
        reply = self.client.get(f"{self.url}/admin/alarms", headers=self._headers)
        reply.raise_for_status()
        return list(reply.json())

    @property
    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.admin}"}


class Parties:
    """Starts servers and runs clients; whatever still runs when it is left is ended."""

    def __init__(self, logs: Path) -> None:
        """Takes the folder for the processes' logs."""
        self._logs = logs
        self._servers: list[subprocess.Popen[bytes]] = []
        self._clients: list[subprocess.Popen[bytes]] = []
        self._connections: list[httpx.Client] = []
        self._lock = threading.RLock()
        self._ended = False
        self._before: dict[int, Any] = {}
        logs.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Parties:
        # An exception from a signal can get lost in whatever runs just then: the handler ends everything itself.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self._before[number] = signal.signal(number, self._interrupted)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._end()

    def _interrupted(self, signum: int, frame: object) -> None:
        self._end()
        os._exit(130)

    def _end(self) -> None:
        with self._lock:
            self._ended = True
            for connection in self._connections:
                connection.close()
            for process in self._clients:
                process.kill()
            for process in self._servers:
                process.terminate()
            for process in self._servers:
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()

    def serve(self, name: str, config: Path, *, patience: float = 600.0) -> Server:
        """Starts a server on a free port of the loopback and waits until it is ready."""
        command = ["server", "--config", str(config)]
        made = self._start(
            f"{name}-accounts", [*command, "accounts", "create", "admin", "--plan", "admin"], config.parent
        )
        if made.wait():
            raise self._failed(f"{name}-accounts")
        key = self._log(f"{name}-accounts").read_text().split()[-1]
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
        process = self._start(name, [*command, "--port", str(port)], config.parent, server=True)
        url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + patience
        client = httpx.Client(timeout=60)
        self._connections.append(client)
        while True:
            with contextlib.suppress(httpx.TransportError):
                if client.get(f"{url}/v2/health/ready").status_code == 200:
                    return Server(url, key, client)
            if process.poll() is not None or time.monotonic() > deadline:
                raise self._failed(name)
            time.sleep(0.2)

    def run(self, jobs: Sequence[Job], *, at_once: int, label: str) -> None:
        """Runs clients to their ends, some at once, under a progress bar.

        Raises:
            Failed: One of them failed; the others are ended.
        """
        with tqdm(total=len(jobs), desc=label, unit="run", dynamic_ncols=True) as bar, self._pool(at_once) as pool:
            waiting = {pool.submit(self._finish, job): job for job in jobs}
            pending: set[Future[None]] = set(waiting)
            while pending:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
                    bar.set_postfix_str(waiting[future].name, refresh=False)
                    bar.update()

    @contextlib.contextmanager
    def _pool(self, at_once: int) -> Iterator[ThreadPoolExecutor]:
        pool = ThreadPoolExecutor(at_once)
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in self._clients:
                process.kill()
            raise
        pool.shutdown()

    def _finish(self, job: Job) -> None:
        process = self._start(job.name, job.arguments, job.folder, job.environment)
        if process.wait():
            raise self._failed(job.name)

    def _start(
        self,
        name: str,
        arguments: Sequence[str],
        folder: Path,
        environment: Mapping[str, str] | None = None,
        *,
        server: bool = False,
    ) -> subprocess.Popen[bytes]:
        log: IO[bytes]
        with self._log(name).open("wb") as log, self._lock:
            if self._ended:
                raise Failed(f"{name} was not started: the parties were ended")
            process = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                cwd=folder,
                env={**_CLEAN, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # an interrupt of the terminal is for the bench, which ends its parties
            )
            (self._servers if server else self._clients).append(process)
        return process

    def _failed(self, name: str) -> Failed:
        lines = self._log(name).read_text(errors="replace").replace("\r", "\n").strip().splitlines()
        return Failed(f"{name} failed: {lines[-1] if lines else 'it said nothing'} (see {self._log(name)})")

    def _log(self, name: str) -> Path:
        return self._logs / f"{name}.log"
