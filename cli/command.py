"""Starts and runs commands, and reports their errors. Imports of our own packages are deferred."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from cli.registry import resolve

Main = Callable[[Sequence[str] | None], int | None]


class Parser(argparse.ArgumentParser):
    """An argument parser that reports an error in one line, with exit status 2.

    A subcommand can add its flags when it is selected, so that other commands do not wait for its imports.
    """

    def __init__(self, *args: Any, fill: str | Callable[[Parser], object] | None = None, **options: Any) -> None:
        """Makes a parser.

        Args:
            *args: Passed to :class:`argparse.ArgumentParser`.
            fill: A function that adds this parser's flags, or its name as ``module:function``.
            **options: Passed to :class:`argparse.ArgumentParser`.
        """
        super().__init__(*args, **options)
        self._fill = fill

    def fill(self) -> None:
        """Adds the deferred flags. Parsing calls this."""
        fill, self._fill = self._fill, None
        if fill is not None:
            (resolve(fill) if isinstance(fill, str) else fill)(self)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Adds the deferred flags, then parses."""
        self.fill()
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Prints the error and exits with status 2."""
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def run(main: str | Main, argv: Sequence[str] | None = None) -> NoReturn:
    """Runs a command; reports an error that the user can correct in one line, with exit status 2.

    Args:
        main: The command's function, or its name as ``module:function``.
        argv: The command's arguments; default: those of the process.
    """
    os.umask(0o077)  # keys, accounts, rows and evidence are for this user alone
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")  # tqdm reads it on import
    try:
        sys.exit((resolve(main) if isinstance(main, str) else main)(argv) or 0)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader has closed the pipe
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        from wire.errors import BadInput, WireError

        if not isinstance(error, (BadInput, WireError, OSError)):
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
