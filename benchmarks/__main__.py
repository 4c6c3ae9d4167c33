"""Speed: ``python -m benchmarks serving`` (beside other servers) and ``detectors`` (the cost of watching)."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

from benchmarks import detectors
from benchmarks.serving import environments
from benchmarks.serving.rounds import Bench
from benchmarks.serving.table import table
from cli.command import Parser, run
from cli.flags import at_least
from wire import BadInput


def main(argv: Sequence[str] | None = None, prog: str = "python -m benchmarks") -> None:
    """Runs a benchmark and prints its table."""
    parser = Parser(prog, description="How fast it is.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    serving = commands.add_parser("serving", help="measure the server beside raw forward and beside other servers")
    serving.add_argument("--install", action="store_true", help="install the rivals' environments, and no more")
    serving.add_argument(
        "--cache",
        type=Path,
        default=environments.cache(),
        help="folder of these, and of the networks (default: %(default)s)",
    )
    serving.add_argument("--rounds", type=at_least(1), default=5, help="rounds over everything (default: 5)")
    serving.add_argument("--seconds", type=float, default=3.0, help="length of a measurement (default: 3)")
    serving.add_argument(
        "--only", nargs="+", default=(), metavar="WORD", help="only measurements whose name holds one of these"
    )
    serving.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    serving.set_defaults(run=_serving)
    watching = commands.add_parser("detectors", help="measure a detector beside a matrix product and a plain loop")
    detectors.add(watching)
    watching.set_defaults(run=lambda arguments: print(detectors.run(arguments)))
    arguments = parser.parse_args(argv)
    arguments.run(arguments)


def _serving(arguments: argparse.Namespace) -> None:
    if arguments.install:
        environments.install(arguments.cache, os.environ.get("TORCH_INDEX"))
        return
    if not 0.1 <= arguments.seconds <= 600:
        raise BadInput(f"--seconds {arguments.seconds:g}: expected 0.1 to 600")
    results = Bench(arguments.cache, arguments.rounds, arguments.seconds, arguments.only).run()
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")
    print(table(results))


if __name__ == "__main__":
    run(main)
