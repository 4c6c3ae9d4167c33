"""How a command starts, runs and fails; it imports nothing of ours until it must."""

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

    The flags of a subcommand may be added when it is named, so that no other command waits for its imports.
    """

    def __init__(self, *args: Any, fill: str | Callable[[Parser], object] | None = None, **options: Any) -> None:
        """Makes a parser.

        Args:
            *args: What :class:`argparse.ArgumentParser` takes.
            fill: A function that adds this parser's flags, itself or as ``module:function``.
            **options: What :class:`argparse.ArgumentParser` takes.
        """
        super().__init__(*args, **options)
        self._fill = fill

    def fill(self) -> None:
        """Adds the flags that were left for later; parsing does so by itself."""
        fill, self._fill = self._fill, None
        if fill is not None:
            (resolve(fill) if isinstance(fill, str) else fill)(self)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Adds the flags that were left for later, and parses."""
        self.fill()
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Ends the command."""
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def run(main: str | Main, argv: Sequence[str] | None = None) -> NoReturn:
    """Runs a command; an error that the user can correct is reported in one line, with exit status 2.

    Args:
        main: The command's function, itself or as ``module:function``.
        argv: Its arguments; those of the process by default.
    """
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")  # tqdm reads it when it is imported
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
