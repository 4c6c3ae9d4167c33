"""``mlaas-range``: one command for all parties; a party's code is imported when its command is called."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from cli.command import Parser, run
from cli.registry import resolve

COMMANDS = {
    "serve": ("server.command:main", "serve models behind defences; manage accounts, calibrate detectors"),
    "attack": ("attacker.command:main", "steal a served model, or infer who was in its training set"),
    "prove": ("owner.command:main", "test whether a served model was made from yours"),
    "train": ("cli.train:train", "train, import and evaluate models; divide a data set into the roles' files"),
    "experiments": ("experiments.__main__:main", "run all parties against one another and write a report"),
    "benchmarks": ("benchmarks.__main__:main", "measure speed"),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Dispatches to the command of one party."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0] in COMMANDS:
        resolve(COMMANDS[words[0]][0])(words[1:], f"mlaas-range {words[0]}")
        return
    parser = Parser("mlaas-range", description="A prediction API to attack and defend.")
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, (_, about) in COMMANDS.items():
        commands.add_parser(name, help=about)
    parser.parse_args(words)


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *parsed: object) -> NoReturn:
        from wire.version import VERSION

        print(f"mlaas-range {VERSION}")
        parser.exit()


def script() -> NoReturn:
    """Runs the command and exits the process."""
    run(main)


if __name__ == "__main__":
    script()
