"""Serving, from settings to the last answer: in this process, or in several at one port."""

from __future__ import annotations

import logging
import resource
import socket
from collections.abc import MutableSequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import NamedTuple

from server.http import hosts, logs, telemetry
from server.processes.supervisor import preload, run_once, supervise
from server.settings import Settings
from wire import BadInput

log = logging.getLogger(__name__)


class Serving(NamedTuple):
    """How to serve.

    Attributes:
        settings: The server's settings.
        introduce: Whether to create an account for each plan, where there are no accounts yet.
        certificate: Certificate file, for HTTPS.
        key: Its private key file.
    """

    settings: Settings
    introduce: bool
    certificate: Path | None
    key: Path | None

    def run(self) -> None:
        """Serves until this process gets a signal to end."""
        settings = self.settings
        logs.begin(settings.log)
        if settings.state.is_dir() and settings.state.stat().st_mode & 0o077:
            log.warning(
                "Other users may read %s, with rows and models; run: chmod -R go= %s", *[settings.state] * 2
            )
        with suppress(OSError, ValueError):  # as many connections as the system allows
            resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
        listener = bound(settings.host, settings.port)  # before anything slow
        if settings.workers == 1:
            _work(self, listener, 0, [0])
            return
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # only now, to find a port that is taken
        with (
            nullcontext()
            if settings.metrics_port is None
            else telemetry.gathering(settings.host, settings.metrics_port, hosts.allowed(settings))
        ):
            preload("server.processes.worker")
            run_once(_prepare, self)
            # Once its workers are closed, this process holding the socket would let clients connect to nobody.
            supervise(settings.workers, _work, self, listener, release=listener.close)


def bound(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """Binds a socket that does not listen yet.

    Args:
        host: The address.
        port: The port.
        shared: Whether other processes of this user may bind it too.

    Raises:
        BadInput: The address or the port is not available.
    """
    try:
        kind, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(kind, socket.SOCK_STREAM)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind(address)
    except OSError as error:
        raise BadInput(f"cannot serve at {host}:{port}: {error.strerror}") from None
    return bound


def _prepare(serving: Serving) -> None:
    from server.processes.worker import prepare  # here and below: the parent of workers does without torch

    logs.begin(serving.settings.log)
    prepare(serving.settings, serving.introduce)


def _work(serving: Serving, listener: socket.socket, number: int, up: MutableSequence[int]) -> None:
    from server.processes.worker import serve

    logs.begin(serving.settings.log)
    serve(*serving, listener, number, up)
