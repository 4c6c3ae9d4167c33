"""The parties as processes of their own, which know one another by URL and key."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import runpy
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import httpx
from tqdm import tqdm

from experiments.processes import Processes, end_tree, free_port, without_settings

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(["experiments.preloaded"])


@dataclass(frozen=True)
class Job:
    """One client's command.

    Attributes:
        name: Its name in the progress bar and of its log.
        arguments: The arguments of ``python -m``.
        folder: The party's folder, where the command runs; it is given no path outside.
        environment: ``MLAAS_URL``, ``MLAAS_KEY`` and the like.
    """

    name: str
    arguments: Sequence[str]
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Server:
    """A running server.

    Attributes:
        port: Its port of the loopback interface.
        admin: An administrator's key.
        pid: Its process.
        client: Connections to it; making a client takes longer than a request.
    """

    port: int
    admin: str
    pid: int
    client: httpx.Client = field(repr=False)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def account(self, name: str, plan: str) -> str:
        """Makes an account and returns its key."""
        reply = self.client.post(
            f"{self.url}/admin/accounts", json={"name": name, "plan": plan}, headers=self._headers
        )
        reply.raise_for_status()
        return str(reply.json()["key"])

    def ledgers(self) -> dict[str, dict[str, int]]:
        """Returns the rows, requests and micro-cents of each account by the server's count."""
        reply = self.client.get(f"{self.url}/admin/accounts", headers=self._headers)
        reply.raise_for_status()
        entries = ("rows", "requests", "micro_cents")
        return {account["account"]: {entry: account[entry] for entry in entries} for account in reply.json()}

    def alarms(self) -> list[dict[str, Any]]:
        """Returns the standing alarms: ``account``, ``model``, ``detector``, ``row``, ``statistic`` and more."""
        reply = self.client.get(f"{self.url}/admin/alarms", headers=self._headers)
        reply.raise_for_status()
        return list(reply.json())

    def marks(self, model: str, account: str) -> bytes | None:
        """Commits to all marks of a model, and returns those of an account in JSON; None if it has none."""
        url = f"{self.url}/admin/models/{model}/marks"
        for reply in (
            self.client.post(f"{url}/commit", headers=self._headers),
            self.client.get(f"{url}/{account}", headers=self._headers),
        ):
            if reply.status_code == HTTPStatus.NOT_FOUND:
                return None
            reply.raise_for_status()
        return reply.content

    @property
    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.admin}"}


class Parties(Processes):
    """Serves models and runs the clients that ask them; the parties know one another by URL and key."""

    def __init__(self, folder: Path | None = None) -> None:
        """Takes the folder of this run; see :class:`~experiments.processes.Processes`."""
        super().__init__(folder)
        self._clients: list[ForkServerProcess] = []

    def serve(
        self,
        name: str,
        config: Path,
        flags: Sequence[str] = (),
        environment: Mapping[str, str] = {},
        *,
        patience: float = 600.0,
    ) -> Server:
        """Starts a server on a free port of the loopback interface and waits until it is ready.

        Args:
            name: The name of its log.
            config: Its TOML file.
            flags: Further flags of ``python -m server``.
            environment: Variables to set.
            patience: Most seconds to wait.
        """
        command = [sys.executable, "-m", "server", "--config", str(config)]
        create = [*command, "accounts", "create", "admin", "--plan", "admin"]
        key = self.finish(f"{name}-accounts", create, config.parent, environment).split()[-1]
        port = free_port()
        process = self.start(name, [*command, "--port", str(port), *flags], config.parent, environment)
        made = Server(port, key, process.pid, self._closing.enter_context(httpx.Client(timeout=60)))
        deadline = time.monotonic() + patience
        while True:
            with contextlib.suppress(httpx.TransportError):
                if made.client.get(f"{made.url}/v2/health/ready").status_code == 200:
                    return made
            if process.poll() is not None or time.monotonic() > deadline:
                raise self.failed(name)
            time.sleep(0.2)

    def run(self, jobs: Sequence[Job], *, at_once: int, label: str) -> None:
        """Runs clients to their ends, ``at_once`` of them at a time, under a progress bar.

        A client is a process of its own with one thread, forked from one that has loaded the libraries and nothing
        of ours.

        Raises:
            Failed: One of them failed; no further one is started, and those that run are ended.
        """
        waiting = list(reversed(jobs))
        running: dict[int, tuple[Job, ForkServerProcess]] = {}
        try:
            with tqdm(total=len(jobs), desc=label, unit="run", dynamic_ncols=True) as bar:
                while waiting or running:
                    while waiting and len(running) < at_once:
                        client = self._begin(waiting[-1])
                        running[client.sentinel] = waiting.pop(), client
                    for sentinel in wait(list(running)):
                        assert isinstance(sentinel, int)
                        job, client = running.pop(sentinel)
                        client.join()
                        self._clients.remove(client)
                        if client.exitcode:
                            raise self.failed(job.name)
                        bar.set_postfix_str(job.name, refresh=False)
                        bar.update()
        finally:
            self._end_clients()

    def _begin(self, job: Job) -> ForkServerProcess:
        environment = {**without_settings(), "OMP_NUM_THREADS": "1", **job.environment}
        client = _forks.Process(target=_become, args=(job, environment, self.log(job.name)))
        self._clients.append(client)
        client.start()
        return client

    def _end_clients(self) -> None:
        for client in self._clients:
            if client.pid is not None:
                end_tree(client.pid)
        self._clients.clear()

    def _close(self) -> None:
        self._end_clients()
        super()._close()


def _become(job: Job, environment: Mapping[str, str], log: Path) -> None:
    """Turns this process into a client."""
    os.setsid()  # the terminal's Ctrl-C is for the parent, which ends its clients
    with log.open("wb") as written:
        for stream in (1, 2):
            os.dup2(written.fileno(), stream)
    os.chdir(job.folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [*job.arguments]
    runpy.run_module(job.arguments[0], run_name="__main__", alter_sys=True)
