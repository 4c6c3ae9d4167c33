"""``python -m server`` serves victims; ``python -m server accounts create NAME --plan PLAN`` makes an account.

``python -m server calibrate VICTIM --detector prada --rows FILE`` chooses a detector's threshold on harmless rows.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cli.command import Parser, run
from server.commands.accounts import add_commands, administrate
from server.commands.calibrate import add_flags, calibrate
from server.processes.serve import Serving
from server.settings import read_settings
from wire import BadInput


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command."""
    arguments = vars(_parser().parse_args(argv))
    names = ("state", "data", "store", "host", "port", "device", "metrics_port", "log", "workers")
    settings = read_settings(arguments["config"], **{name: arguments.get(name) for name in names})
    if arguments["command"] == "accounts":
        asyncio.run(administrate(settings, arguments["do"], arguments))
        return
    if arguments["command"] == "calibrate":
        print(calibrate(settings, arguments))
        return
    if (arguments["tls_cert"] is None) != (arguments["tls_key"] is None):
        raise BadInput("HTTPS takes both --tls-cert and --tls-key")
    if arguments["tls_cert"] is not None:
        _check_tls(arguments["tls_cert"], arguments["tls_key"])
    Serving(settings, arguments["config"] is None, arguments["tls_cert"], arguments["tls_key"]).run()


def _check_tls(certificate: Path, key: Path) -> None:
    for file in (certificate, key):
        try:
            file.read_bytes()
        except OSError as error:
            raise BadInput(f"{file}: {error.strerror}") from None
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
    except ssl.SSLError as error:
        raise BadInput(
            f"{certificate} and {key}: {error}; expected a certificate and its private key, both in PEM"
        ) from None


def _parser() -> argparse.ArgumentParser:
    parser = Parser("python -m server", description="The prediction API.")
    _add_common(parser, os.environ.get("MLAAS_STATE"), os.environ.get("MLAAS_DATA"), None)
    parser.add_argument("--host", help="address to bind (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to bind (default: 8000)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), help="where models run (default: auto)")
    parser.add_argument("--workers", type=int, help="number of processes; several need Redis (default: 1)")
    parser.add_argument("--metrics-port", type=int, help="port of the metrics for Prometheus (default: none)")
    parser.add_argument("--log", choices=("text", "json"), help="the log's form (default: text)")
    parser.add_argument("--tls-cert", type=Path, help="certificate file, for HTTPS")
    parser.add_argument("--tls-key", type=Path, help="private key file, for HTTPS")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    accounts = commands.add_parser("accounts", help="make accounts; make, rotate and revoke keys")
    calibration = commands.add_parser("calibrate", help="choose a detector's threshold on harmless rows")
    add_flags(calibration)
    # What stands before a command holds unless it is said again behind it.
    for command in (*add_commands(accounts), calibration):
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
        help="sqlite:///PATH, redis://HOST:PORT/N (rediss:// over TLS) or unix:///SOCKET "
        "(default: SQLite in the state folder)",
    )


if __name__ == "__main__":
    run(main)
