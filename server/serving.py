"""Serving, from settings to the last answer: in this process, or in several behind one socket."""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
import time
from collections.abc import MutableSequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

import torch
import uvicorn

from defenses.store import Store, open_store
from server import logs, telemetry, workers
from server.administration import OPERATOR
from server.app import VERSION, create_app, server_secret
from server.engine import settle
from server.listener import server
from server.registry import Registry
from server.settings import Settings
from server.victims import load_all
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
            with asyncio.Runner(loop_factory=_LOOP) as runner:
                runner.run(self._serve(listener, 0, [0]))
            return
        with (
            nullcontext()
            if settings.metrics_port is None
            else telemetry.gathering(settings.host, settings.metrics_port)
        ):
            workers.run_once(_prepare, self)
            # Once its workers are closed, this process holding the socket would let clients connect to nobody.
            workers.supervise(settings.workers, _work, self, listener, release=listener.close)

    async def _serve(self, listener: socket.socket, number: int, up: MutableSequence[int]) -> None:
        settings = self.settings
        on_gpu = settings.device != "cpu" and torch.cuda.is_available()
        metrics = telemetry.Telemetry(VERSION, torch.cuda.memory_allocated if on_gpu else None)
        served = load_all(settings, metrics.forward)
        store = open_store(settings.store_url(), metrics.trip)
        if len(up) == 1:
            await self.greet(store)
        door = create_app(settings, store, served, await server_secret(store), telemetry=metrics)
        door.here.up = up
        await door.here.begin()

        def started() -> None:
            up[number] = 1

        settle()
        with (
            telemetry.serving(settings.host, settings.metrics_port, metrics.registry)
            if len(up) == 1 and settings.metrics_port is not None
            else nullcontext()
        ):
            await server(door, settings, self.certificate, self.key, started).serve(sockets=[listener])

    async def greet(self, store: Store) -> None:
        """Makes the first accounts, or says that there are none."""
        registry = Registry(store, time.time)
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


_LOOP = uvicorn.Config("", log_config=None).get_loop_factory()


def _prepare(serving: Serving) -> None:
    """Trains and exports what the workers will load, makes the first accounts, and checks what is remembered."""
    logs.begin(serving.settings.log)
    served = load_all(serving.settings)

    async def greet() -> None:
        store = open_store(serving.settings.store_url())
        try:
            await serving.greet(store)
            await create_app(serving.settings, store, served, await server_secret(store)).here.begin()
        finally:
            await store.close()

    asyncio.run(greet())


def _work(serving: Serving, listener: socket.socket, number: int, up: MutableSequence[int]) -> None:
    logs.begin(serving.settings.log)
    with asyncio.Runner(loop_factory=_LOOP) as runner:
        runner.run(serving._serve(listener, number, up))
