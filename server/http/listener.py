"""uvicorn, which on SIGTERM closes its port at once, before a load balancer could know: here it drains first."""

from __future__ import annotations

import math
import signal
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from server.http import hosts
from server.http.application import Application
from server.http.connection import Connection
from server.settings import Settings


class Server(uvicorn.Server):
    """A server that answers 503 for a while before it closes."""

    def __init__(
        self, config: uvicorn.Config, application: Application, settings: Settings, started: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._application, self._settings, self._started = application, settings, started
        self._close_at = math.inf

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begins to answer."""
        await super().startup(sockets)
        self._started()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Starts the drain, which Ctrl-C skips; a second signal ends the server at once."""
        self.force_exit = self._application.draining
        self._application.draining = True
        self._close_at = monotonic() + (0 if sig == signal.SIGINT else self._settings.drain_seconds)
        self.should_exit = True  # uvicorn would also raise the signal again after a good end

    async def on_tick(self, counter: int) -> bool:
        """Checks connections, once in ten calls; returns whether to close. uvicorn calls it ten times a second."""
        if counter % 10 == 0:
            for connection in list(self.server_state.connections):
                if isinstance(connection, Connection) and connection.overdue(connection.loop.time()):
                    connection.cut()
        return await super().on_tick(counter) and (self.force_exit or monotonic() >= self._close_at)


def server(
    application: Application,
    settings: Settings,
    certificate: Path | None,
    key: Path | None,
    started: Callable[[], None],
) -> Server:
    """Returns the server of an application, which calls ``started`` when it answers."""
    config = uvicorn.Config(
        application,
        http=cast(type[HttpToolsProtocol], partial(Connection, application, settings)),
        ws="none",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        ssl_certfile=certificate,
        ssl_keyfile=key,
        timeout_graceful_shutdown=10,
    )
    application.hosts = hosts.allowed(settings)
    return Server(config, application, settings, started)
