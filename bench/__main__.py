"""``python -m bench demo``: all parties against one another; ``python -m bench report``: the papers' sizes."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from bench.parties import terminated_like_interrupted
from bench.protocol import FULL, REDUCED
from bench.report import write
from bench.trial import Trial
from wire.command import Parser, run, state_folder
from zoo.data import data_folder


def main(argv: Sequence[str] | None = None) -> None:
    """Runs a trial and writes its report."""
    parser = Parser("python -m bench", description="Runs all parties against one another and writes a report.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, protocol, about in (
        ("demo", REDUCED, "serve, steal, spy, prove, at reduced sizes"),
        ("report", FULL, "the same at the papers' own sizes"),
    ):
        command = commands.add_parser(name, help=about)
        command.add_argument("--out", type=Path, default=Path("out"), help="folder for the report (default: out)")
        command.add_argument(
            "--state", type=Path, help="folder that outlasts the run (MLAAS_STATE; default: state)"
        )
        command.add_argument("--data", type=Path, help="folder where data sets lie (MLAAS_DATA)")
        command.add_argument(
            "--dataset", help="name of a data set (default: fashion_mnist, or a dependency's digits)"
        )
        command.add_argument("--seed", type=int, default=0, help="seed of everything (default: 0)")
        command.set_defaults(protocol=protocol)
    _show(parser.parse_args(argv))


def _show(arguments: argparse.Namespace) -> None:
    start = time.perf_counter()
    trial = Trial(
        arguments.protocol,
        arguments.out,
        state_folder(arguments.state),
        data_folder(arguments.data),
        arguments.dataset,
        arguments.seed,
    )
    with terminated_like_interrupted():
        results = trial.run()
    path = write(results, arguments.out)
    print(f"{path} ({time.perf_counter() - start:.0f} s)")


if __name__ == "__main__":
    run(main)
