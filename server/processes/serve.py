"""Serving, from settings to the last answer: in this process, or in several behind one socket."""

from __future__ import annotations

import logging
import resource
import socket
import time
from collections.abc import MutableSequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

from defenses.store import Store
from server.commands.accounts import OPERATOR
from server.control.log import ControlLog
from server.http import logs, telemetry
from server.processes import supervisor as workers
from server.settings import Settings
from wire import BadInput


@dataclass(frozen=True)
class Serving:
    """How to serve.

    Attributes:
        settings: The server's settings.
        introduce: Whether to make an account for each plan, where there are no accounts yet.
        certificate: Certificate file, for HTTPS.
        key: Its private key file.
    """

    settings: Settings
    introduce: bool
    certificate: Path | None
    key: Path | None

    def run(self) -> None:
        """Serves until this process is told to end."""
        settings = self.settings
        logs.begin(settings.log)
        with suppress(OSError, ValueError):  # as many connections as the system allows, idle ones among them
            resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
        listener = bound(settings.host, settings.port)  # before anything long is begun
        if settings.workers == 1:
            _work(self, listener, 0, [0])
            return
        with (
            nullcontext()
            if settings.metrics_port is None
            else telemetry.gathering(settings.host, settings.metrics_port)
        ):
            workers.run_once(_prepare, self)
            # Once its workers are closed, this process holding the socket would let clients connect to nobody.
            workers.supervise(settings.workers, _work, self, listener, release=listener.close)

    async def greet(self, store: Store) -> None:
        """Makes the first accounts, or says that there are none."""
        registry = ControlLog(store, time.time)
        await registry.catch_up()
        if registry.accounts():
            return
        if not self.introduce:
            logging.warning(
                "There are no accounts yet: python -m server --config ... accounts create NAME --plan PLAN"
            )
            return
        print("Keys, told only this once:")  # noqa: T201
        for plan in self.settings.plans:
            key = await registry.create(plan, plan, OPERATOR)
            print(f"  {plan:10} {key}", flush=True)  # noqa: T201


def bound(host: str, port: int) -> socket.socket:
    """Binds a socket that does not listen yet.

    Raises:
        BadInput: The address or the port cannot be had.
    """
    try:
        kind, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(kind, socket.SOCK_STREAM)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        raise BadInput(f"cannot serve at {host}:{port}: {error.strerror}") from None
    return bound


def _prepare(serving: Serving) -> None:
    from server.processes.worker import prepare  # here and below: the parent of workers does without torch

    prepare(serving)


def _work(serving: Serving, listener: socket.socket, number: int, up: MutableSequence[int]) -> None:
    from server.processes.worker import serve

    logs.begin(serving.settings.log)
    serve(serving, listener, number, up)
