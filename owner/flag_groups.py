"""Groups of flags that several commands of ``mlaas-range prove`` share."""

from __future__ import annotations

import argparse
import os
from datetime import UTC, datetime
from pathlib import Path

from cli.command import Parser
from cli.endpoint import add_card_options, add_endpoint
from cli.flags import add_fields, at_least
from owner import PROOFS


def add_served(parser: Parser, name: str, *, of: str = "the victim", required: bool = False) -> None:
    """Adds the flags of another endpoint than the suspect's."""
    group, prefix = parser.add_argument_group(of.partition(",")[0]), f"{name}_"
    group.add_argument(f"--{name}", dest=f"{prefix}url", metavar="URL", required=required, help=f"URL of {of}")
    group.add_argument(f"--{name}-model", help="name of the model; not needed if the server has only one")
    variable = f"MLAAS_{name.upper()}_KEY"
    group.add_argument(
        f"--{name}-key",
        default=os.environ.get(variable),
        help=f"API key of that server ({variable}; default: --key)",
    )
    add_card_options(group, prefix)


def add_verdict(parser: Parser, proof: str) -> None:
    """Adds the flags of a proof whose verdict rests on independent models."""
    add_endpoint(parser)
    add_independent(parser, "models known not to be stolen, to compare the suspect with", required=True)
    add_out(parser, "the evidence (JSON)")
    add_fields(parser.add_argument_group("the verdict"), PROOFS.outline(proof))


def add_log(parser: Parser) -> None:
    """Adds the owner's log."""
    parser.add_argument(
        "--log",
        type=Path,
        metavar="FOLDER",
        help="the owner's log, whose receipt and signature a judge needs (default: none)",
    )


def add_heads(parser: Parser) -> None:
    """Adds what a judge knows of the owner's log."""
    parser.add_argument(
        "--head",
        type=Path,
        nargs="+",
        required=True,
        metavar="FILE",
        help="heads of the owner's log, as found where they were published: the one with the commitment, and "
        "later ones",
    )
    parser.add_argument(
        "--since",
        type=date,
        metavar="DATE",
        help="when the suspect is first known to have existed, such as 2026-03-01; a commitment that is no older "
        "is refused",
    )


def add_independent(parser: Parser, about: str, *, required: bool = False) -> None:
    """Adds independent models."""
    parser.add_argument(
        "--independent",
        nargs="+" if required else "*",
        default=(),
        required=required,
        metavar="FOLDER|URL",
        help=about,
    )
    parser.add_argument("--independent-key", help="API key of the independent models' servers (default: --key)")


def add_rows(parser: Parser, name: str, about: str) -> None:
    """Adds a file of rows, with a default name."""
    parser.add_argument(
        f"--{name}", type=Path, default=f"{name}.npz", help=f"file of {about} (default: %(default)s)"
    )


def add_number(parser: Parser, name: str, least: int, default: int, about: str) -> None:
    """Adds a number."""
    parser.add_argument(
        f"--{name}",
        type=at_least(least),
        default=default,
        metavar="N",
        help=f"number of {about} (default: %(default)s)",
    )


def add_out(parser: Parser, about: str) -> None:
    """Adds the file of the result."""
    parser.add_argument("--out", type=Path, required=True, help=f"file for {about}")


def add_study(parser: Parser) -> None:
    """Adds the folder of a study."""
    parser.add_argument(
        "--study", type=Path, required=True, metavar="FOLDER", help="folder made by `mlaas-range prove prepare`"
    )


def add_jobs(parser: Parser) -> None:
    """Adds the number of processes."""
    parser.add_argument(
        "--jobs", type=at_least(1), metavar="N", help="number of processes that train (default: that of the cores)"
    )


def date(text: str) -> datetime:
    """Reads a date; UTC, unless it names another zone."""
    try:
        return datetime.fromisoformat(text).replace(tzinfo=datetime.fromisoformat(text).tzinfo or UTC)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a date such as 2026-03-01 or 2026-03-01T12:00"
        ) from None
