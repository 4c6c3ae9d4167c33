"""What a process that serves does, from loading its victims to its last answer."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import MutableSequence
from contextlib import nullcontext

import torch
import uvicorn

from defenses.store import open_store
from server.app import create_app, server_secret
from server.deployment.engine import settle
from server.deployment.models import load_all
from server.http import logs, telemetry
from server.http.listener import server
from server.processes.serve import Serving
from wire.version import VERSION


def serve(serving: Serving, listener: socket.socket, number: int, up: MutableSequence[int]) -> None:
    """Serves until this process is told to end.

    Args:
        serving: How to serve.
        listener: The socket.
        number: Which of the processes behind it this is.
        up: For each of them whether it answers; this one writes 1 at its place.

    Raises:
        BadInput: A victim, a stack or what a layer remembers cannot be used.
    """
    loop = uvicorn.Config("", log_config=None).get_loop_factory()
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(_serve(serving, listener, number, up))


async def _serve(serving: Serving, listener: socket.socket, number: int, up: MutableSequence[int]) -> None:
    settings = serving.settings
    on_gpu = settings.device != "cpu" and torch.cuda.is_available()
    metrics = telemetry.Telemetry(VERSION, torch.cuda.memory_allocated if on_gpu else None)
    served = load_all(settings, metrics.forward)
    store = open_store(settings.store_url(), metrics.trip)
    if len(up) == 1:
        await serving.greet(store)
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
        await server(door, settings, serving.certificate, serving.key, started).serve(sockets=[listener])


def prepare(serving: Serving) -> None:
    """Trains and exports what workers will load, makes the first accounts, and checks what is remembered.

    Raises:
        BadInput: As :func:`serve` does.
    """
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
