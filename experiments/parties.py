"""The parties as processes of their own, which know one another by URL and key."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx
from tqdm import tqdm

from experiments.processes import Processes, free_port


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

        Raises:
            Failed: One of them failed; no further one is started, and those that run are ended.
        """
        with tqdm(total=len(jobs), desc=label, unit="run", dynamic_ncols=True) as bar, self._pool(at_once) as pool:
            waiting = {pool.submit(self._finish, job): job for job in jobs}
            pending: set[Future[str]] = set(waiting)
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
            self.end(*[process for process, gently in self._running.copy().items() if not gently])
            raise
        pool.shutdown()

    def _finish(self, job: Job) -> str:
        return self.finish(job.name, [sys.executable, "-m", *job.arguments], job.folder, job.environment)
