"""``python -m server`` serves victims; ``python -m server accounts create NAME --plan PLAN`` makes an account."""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from defenses.store import open_store
from server.administration import OPERATOR, add_commands, administrate
from server.registry import Registry
from server.settings import Settings, read_settings
from wire import BadInput
from wire.command import Parser, run


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command."""
    arguments = vars(_parser().parse_args(argv))
    names = ("state", "data", "store", "host", "port", "device", "metrics_port", "log")
    settings = read_settings(arguments["config"], **{name: arguments.get(name) for name in names})
    if arguments["command"] == "accounts":
        asyncio.run(administrate(settings, arguments["do"], arguments))
        return
    if (arguments["tls_cert"] is None) != (arguments["tls_key"] is None):
        raise BadInput("HTTPS takes both --tls-cert and --tls-key")
    _serve(settings, arguments)


def _parser() -> argparse.ArgumentParser:
    parser = Parser("python -m server", description="The prediction API.")
    _add_common(parser, os.environ.get("MLAAS_STATE"), os.environ.get("MLAAS_DATA"), None)
    parser.add_argument("--host", help="address to bind (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to bind (default: 8000)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), help="where models run (default: auto)")
    parser.add_argument("--metrics-port", type=int, help="port of the metrics for Prometheus (default: none)")
    parser.add_argument("--log", choices=("text", "json"), help="the log's form (default: text)")
    parser.add_argument("--tls-cert", type=Path, help="certificate file, for HTTPS")
    parser.add_argument("--tls-key", type=Path, help="private key file, for HTTPS")
    commands = parser.add_subparsers(dest="command", metavar="accounts")
    accounts = commands.add_parser("accounts", help="make accounts; make, rotate and revoke keys")
    # What stands before "accounts" holds unless it is said again behind it.
    for command in add_commands(accounts):
        _add_common(command, *[argparse.SUPPRESS] * 3)
    return parser


def _add_common(parser: argparse.ArgumentParser, state: Any, data: Any, other: Any) -> None:
    parser.add_argument(
        "--config", type=Path, default=other, help="TOML file; without one, one victim behind sensible limits"
    )
    parser.add_argument(
        "--state",
        type=Path,
        default=state,
        help="folder for accounts, bills and models (MLAAS_STATE; default: ./state)",
    )
    parser.add_argument("--data", type=Path, default=data, help="folder where data sets lie (MLAAS_DATA)")
    parser.add_argument(
        "--store",
        default=other,
        help="sqlite:///PATH or redis://HOST:PORT/N (default: SQLite in the state folder)",
    )


def _bound(host: str, port: int) -> socket.socket:
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


def _serve(settings: Settings, arguments: dict[str, Any]) -> None:
    # Imported here, since making an account should not wait for torch.
    import uvicorn

    from server.app import create_app, server_secret
    from server.victims import load_all

    logging.basicConfig(format="%(message)s", level=logging.INFO)

    listener = _bound(settings.host, settings.port)  # before anything long is begun

    async def serve() -> None:
        served = load_all(settings)
        store = open_store(settings.store_url())
        registry = Registry(store, time.time)
        app = create_app(settings, store, served, await server_secret(store))
        await registry.catch_up()
        if arguments["config"] is None and not registry.accounts():
            print("Keys, told only this once:")
            for plan in settings.plans:
                print(f"  {plan:10} {await registry.create(plan, plan, OPERATOR)}", flush=True)
        elif not registry.accounts():
            logging.warning(
                "There are no accounts yet: python -m server --config ... accounts create NAME --plan PLAN"
            )
        gc.collect()
        gc.freeze()  # models and libraries live as long as the server: full collections need not walk them
        config = uvicorn.Config(
            app,
            settings.host,
            settings.port,
            access_log=False,
            server_header=False,
            ssl_certfile=arguments["tls_cert"],
            ssl_keyfile=arguments["tls_key"],
            timeout_graceful_shutdown=10,
        )
        await uvicorn.Server(config).serve(sockets=[listener])

    with asyncio.Runner(loop_factory=uvicorn.Config("").get_loop_factory()) as runner:
        runner.run(serve())


if __name__ == "__main__":
    run(main)
