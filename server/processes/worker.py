"""A process that serves, from loading its victims to its last answer."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from collections.abc import MutableSequence
from contextlib import nullcontext
from pathlib import Path

import torch
import uvicorn

from defenses.store import Store, open_store
from server.app import create_app, server_secret
from server.control.accounts import OPERATOR
from server.control.log import ControlLog
from server.deployment.language import load_languages
from server.deployment.models import load_all
from server.deployment.tuning import settle
from server.http import hosts, telemetry
from server.http.listener import server
from server.processes.serve import bound
from server.settings import Settings
from wire.version import VERSION

log = logging.getLogger(__name__)


def serve(
    settings: Settings,
    introduce: bool,
    certificate: Path | None,
    key: Path | None,
    listener: socket.socket,
    number: int,
    up: MutableSequence[int],
) -> None:
    """Serves until this process gets a signal to end.

    Args:
        settings: The server's settings.
        introduce: Whether to create an account for each plan, where there are no accounts yet.
        certificate: Certificate file, for HTTPS.
        key: Its private key file.
        listener: The socket.
        number: The number of this process among those behind the socket.
        up: For each of them whether it answers; this one sets its own to 1.

    Raises:
        BadInput: A victim, a stack or the state of a layer cannot be used.
    """
    loop = uvicorn.Config("", log_config=None).get_loop_factory()
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(_serve(settings, introduce, certificate, key, listener, number, up))


async def _serve(
    settings: Settings,
    introduce: bool,
    certificate: Path | None,
    key: Path | None,
    listener: socket.socket,
    number: int,
    up: MutableSequence[int],
) -> None:
    on_gpu = settings.device != "cpu" and torch.cuda.is_available()
    metrics = telemetry.Telemetry(VERSION, torch.cuda.memory_reserved if on_gpu else None)
    served, languages = load_all(settings, metrics.forward), load_languages(settings)
    store = open_store(settings.store_url(), metrics.trip)
    if len(up) == 1:
        await _greet(store, settings, introduce)
    application = create_app(
        settings, store, served, await server_secret(store), telemetry=metrics, languages=languages
    )
    application.service.up = up
    await application.service.begin()

    def started() -> None:
        up[number] = 1
        if all(up):
            _announce(listener, len(served) + len(languages), secure=certificate is not None)

    settle()
    with (
        telemetry.serving(settings.host, settings.metrics_port, metrics.registry, hosts.allowed(settings))
        if len(up) == 1 and settings.metrics_port is not None
        else nullcontext()
    ):
        if len(up) > 1 and sys.platform == "linux":
            # Of one socket, whoever is awake takes most connections. Linux spreads them over several.
            listener = bound(settings.host, listener.getsockname()[1], shared=True)
        await server(application, settings, certificate, key, started).serve(sockets=[listener])


def prepare(settings: Settings, introduce: bool) -> None:
    """Trains and exports the models that workers will load, creates the first accounts, and checks all state.

    Raises:
        BadInput: As :func:`serve` does.
    """
    served, languages = load_all(settings), load_languages(settings)

    async def check() -> None:
        store = open_store(settings.store_url())
        try:
            await _greet(store, settings, introduce)
            secret = await server_secret(store)
            await create_app(settings, store, served, secret, languages=languages).service.begin()
        finally:
            await store.close()

    asyncio.run(check())


async def _greet(store: Store, settings: Settings, introduce: bool) -> None:
    """Creates the first accounts, or says that there are none."""
    control = ControlLog(store)
    await control.catch_up()
    if control.accounts.all():
        return
    if not introduce:
        log.warning("There are no accounts yet: python -m server --config ... accounts create NAME --plan PLAN")
        return
    print("Keys, shown only this once:")  # noqa: T201
    for plan in settings.plans:
        key = await control.accounts.create(plan, plan, OPERATOR)
        print(f"  {plan:10} {key}", flush=True)  # noqa: T201


def _announce(listener: socket.socket, models: int, *, secure: bool) -> None:
    """Logs the server's address and where its documentation is."""
    host, port = listener.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # every address, of which this one reaches it from here
        host = "localhost"
    address = f"[{host}]" if ":" in host else host
    url = f"http{'s' if secure else ''}://{address}:{port}"
    log.info("Serving %d model%s at %s - docs at %s/docs", models, "" if models == 1 else "s", url, url)
