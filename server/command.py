"""``mlaas-range serve`` and ``python -m server``: serves models, manages accounts, calibrates detectors."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cli.command import Parser
from cli.flags import at_least
from cli.registry import keys


def main(argv: Sequence[str] | None = None, prog: str = "python -m server") -> None:
    """Runs the command."""
    arguments = vars(_parser(prog).parse_args(argv))
    from server.settings import read_settings
    from wire import BadInput

    names = ("state", "data", "store", "host", "port", "device", "metrics_port", "log", "workers")
    settings = read_settings(arguments["config"], **{name: arguments.get(name) for name in names})
    if arguments["command"] == "accounts":
        import asyncio

        from server.commands.accounts import administrate

        asyncio.run(administrate(settings, arguments["do"], arguments))
        return
    if arguments["command"] == "calibrate":
        from server.commands.calibrate import calibrate

        print(calibrate(settings, arguments))
        return
    if arguments["command"] == "detect":
        from server.commands.detect import detect

        for alarm in detect(settings, arguments):
            print(alarm)
        return
    if (arguments["tls_cert"] is None) != (arguments["tls_key"] is None):
        raise BadInput("HTTPS takes both --tls-cert and --tls-key")
    if arguments["tls_cert"] is not None:
        _check_tls(arguments["tls_cert"], arguments["tls_key"])
    from server.processes.serve import Serving

    Serving(settings, arguments["config"] is None, arguments["tls_cert"], arguments["tls_key"]).run()


def _check_tls(certificate: Path, key: Path) -> None:
    import ssl

    from wire import BadInput

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


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = Parser(prog, description="Serves models behind defences.")
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
    # A flag before the subcommand holds unless it is repeated behind it.
    commands.add_parser("accounts", help="make accounts; make, rotate and revoke keys", fill=_add_accounts)
    commands.add_parser("calibrate", help="choose a detector's threshold on harmless rows", fill=_add_calibration)
    commands.add_parser("detect", help="run detectors over a log of requests", fill=_add_detection)
    return parser


def _add_accounts(parser: Parser) -> None:
    commands = parser.add_subparsers(required=True, dest="do", metavar="COMMAND")
    create = commands.add_parser("create", help="make an account and print its key")
    create.add_argument("name")
    create.add_argument("--plan", required=True)
    create.add_argument(
        "--key-file",
        type=Path,
        help="write the key there instead of printing it; if it stands there already, nothing is done",
    )
    create.add_argument("--payment", metavar="TOKEN", help="who pays, for detectors of linked accounts; hashed")
    listing = commands.add_parser("list", help="list accounts, their plans and the ids of their keys")
    plan = commands.add_parser("plan", help="put an account on another plan")
    plan.add_argument("name")
    plan.add_argument("plan")
    add = commands.add_parser("add-key", help="give an account a further key and print it")
    add.add_argument("name")
    rotate = commands.add_parser("rotate", help="give an account a new key, print it, and revoke all its others")
    rotate.add_argument("name")
    revoke = commands.add_parser("revoke", help="revoke keys of an account")
    revoke.add_argument("name")
    revoke.add_argument("--key", help="id of the one key to revoke (default: all)")
    reconcile = commands.add_parser("reconcile", help="refund the requests that killed servers left unanswered")
    reconcile.add_argument(
        "--idle",
        type=at_least(0),
        default=30,
        help="seconds without a trip to the store after which a worker counts as gone (default: %(default)s)",
    )
    for command in (create, listing, plan, add, rotate, revoke, reconcile):
        _add_common(command, *[argparse.SUPPRESS] * 3)


def _add_calibration(parser: Parser) -> None:
    parser.add_argument("victim", help="name of the victim in the configuration")
    parser.add_argument("--detector", required=True, choices=keys("defenses:DETECTORS"), help="the detector")
    parser.add_argument(
        "--rows",
        type=Path,
        required=True,
        nargs="+",
        help="files of harmless rows (npz) that the victim was not trained on; with an array account, or with one "
        "file for each account, the rows of each account are a stream; so they are in a log of requests (jsonl)",
    )
    parser.add_argument(
        "--dismissed",
        action="store_true",
        help="of logs, take only the rows of accounts whose alarm an administrator dismissed as harmless",
    )
    parser.add_argument(
        "--fpr",
        type=float,
        default=0.01,
        help="greatest share of harmless streams of any kind to accuse (default: %(default)s)",
    )
    parser.add_argument(
        "--stream",
        type=at_least(1),
        default=500,
        help="rows of a stream that is drawn from rows without accounts (default: %(default)s)",
    )
    parser.add_argument(
        "--streams",
        type=at_least(1),
        default=100,
        help="streams to choose on, and as many others to try it on (default: %(default)s)",
    )
    parser.add_argument("--seed", type=at_least(0), default=0, help="seed of the draw (default: 0)")
    _add_fields(parser, "; without it the victim's own table of the detector, or the default")
    _add_common(parser, *[argparse.SUPPRESS] * 3)


def _add_detection(parser: Parser) -> None:
    parser.add_argument(
        "--log",
        dest="requests",
        metavar="FILE",
        type=Path,
        required=True,
        help="the log: one JSON object a request; its rows lie beside it (npz)",
    )
    parser.add_argument(
        "--detector",
        choices=keys("defenses:DETECTORS"),
        help="the one to run (default: those of the configuration)",
    )
    _add_fields(parser, ", for --detector")
    _add_common(parser, *[argparse.SUPPRESS] * 3)


def _add_fields(parser: Parser, more: str) -> None:
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help=f"a field of the detector, in TOML (strings may go without quotes){more}",
    )


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
