"""What the parties' command lines share.

A method's dataclass is its command: its fields are the flags, and the ``Attributes`` of its docstring are their
help. The endpoint flags, the meter and the way in which commands fail are the same for every party.
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import os
import re
import signal
import sys
import threading
import types
import typing
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from tqdm import tqdm

from wire.errors import BadInput, WireError
from wire.http import CardOptions, Endpoint
from wire.oracle import Oracle
from wire.patient import Patient

T = TypeVar("T")

MICRO = 10**8  # micro-cents in one unit of the currency


class Parser(argparse.ArgumentParser):
    """An argument parser that says what is wrong in one line, with exit status 2."""

    def error(self, message: str) -> NoReturn:
        """Ends the command."""
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def run(main: Callable[[Sequence[str] | None], int | None], argv: Sequence[str] | None = None) -> NoReturn:
    """Runs a command; what a person can put right is told in one line, with exit status 2."""
    try:
        sys.exit(main(argv) or 0)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # who read the output wants no more of it
        sys.exit(1)
    except (WireError, BadInput, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def summary(cls: type) -> str:
    """Returns the first line of a docstring."""
    return (inspect.getdoc(cls) or "").partition("\n")[0]


def attribute_notes(cls: type) -> dict[str, str]:
    """Reads what a docstring's ``Attributes`` section says of each field."""
    section = (inspect.getdoc(cls) or "").partition("Attributes:\n")[2]
    notes = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", section, re.MULTILINE)
    return {name: re.sub(r"\s+", " ", text) for name, text in notes}


def at_least(least: int) -> Callable[[str], int]:
    """Returns a parser of whole numbers that are not less than ``least``, for an argument's ``type``."""

    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, at least {least}")
        return int(text)

    return number


def add_fields(parser: argparse.ArgumentParser, cls: type, prefix: str = "") -> None:
    """Adds the fields of a dataclass to a parser, as flags with their defaults and their documentation.

    Fields may be of type int, float, str, bool, Path, Literal, a tuple of one of these, or one of these or None.
    """
    hints = typing.get_type_hints(cls)
    notes = attribute_notes(cls)
    for field in dataclasses.fields(cls):
        default = None if field.default is dataclasses.MISSING else field.default
        note = notes.get(field.name, "").replace("%", "%%")
        arguments: dict[str, Any] = {"dest": prefix + field.name, "help": note}
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            arguments["required"] = True
        elif default not in (None, ()):
            arguments["help"] += " (default: %(default)s)"
        arguments["default"] = default
        kind = _without_none(hints[field.name])
        if kind is bool:
            arguments["action"] = argparse.BooleanOptionalAction
        elif typing.get_origin(kind) is tuple:
            arguments |= {"type": typing.get_args(kind)[0], "nargs": "*"}
        elif typing.get_origin(kind) is typing.Literal:
            choices = typing.get_args(kind)
            arguments |= {"type": type(choices[0]), "choices": choices}
        else:
            arguments["type"] = kind
        parser.add_argument("--" + (prefix + field.name).replace("_", "-"), **arguments)


def from_fields(cls: type[T], arguments: argparse.Namespace, prefix: str = "") -> T:
    """Builds a dataclass from what :func:`add_fields` parsed."""
    values = {field.name: getattr(arguments, prefix + field.name) for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def add_endpoint(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that say which model to reach, and how."""
    group = parser.add_argument_group("endpoint")
    url = os.environ.get("MLAAS_URL")
    group.add_argument(
        "--url", default=url, required=url is None, help="the server's URL, or the model's own (MLAAS_URL)"
    )
    group.add_argument("--model", help="name of the model; not needed if the server has only one")
    group.add_argument("--key", default=os.environ.get("MLAAS_KEY"), help="API key (MLAAS_KEY)")
    group.add_argument(
        "--key-file",
        type=Path,
        default=os.environ.get("MLAAS_KEY_FILE"),
        help="file that holds the API key, where --key is not given (MLAAS_KEY_FILE)",
    )
    group.add_argument(
        "--patience", type=float, default=300.0, help="most seconds to wait for one request (default: 300)"
    )
    add_fields(parser.add_argument_group("what the server does not say of itself"), CardOptions)  # type: ignore[arg-type]


@contextmanager
def metered(
    endpoint: Endpoint, *, budget: int | None = None, patience: float = 300.0, label: str = ""
) -> Iterator[Oracle]:
    """Puts a meter and a progress bar on an endpoint.

    The bar shows rows and money spent. An interrupt (Ctrl-C, SIGTERM) ends the budget, so that a method stops
    with what it has; a second one ends the command.
    """
    stop = threading.Event()
    bar = tqdm(total=budget, desc=label or endpoint.model, unit="row", dynamic_ncols=True, mininterval=0.5)

    def shown(oracle: Oracle) -> None:
        money = oracle.money
        if money is not None:
            bar.set_postfix_str(f"spent {money / MICRO:.4f}", refresh=False)
        bar.update(oracle.spent - bar.n)

    oracle = Oracle(
        Patient(endpoint, patience, stop.wait),
        endpoint.card,
        budget,
        prices=endpoint.prices(),
        on_answer=shown,
    )

    def interrupted(signum: int, frame: types.FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        oracle.halt("interrupted")
        bar.write("interrupted: going on with what was answered; once more to end at once", file=sys.stderr)

    before = {number: signal.signal(number, interrupted) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield oracle
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        bar.close()
        endpoint.close()


def read_key(key: str | None, file: Path | None) -> str | None:
    """Returns the key, or else what the file holds.

    Raises:
        BadInput: The file cannot be read, or what it holds can be no key.
    """
    if not key and file is not None:
        try:
            key = file.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"key file {file}: {getattr(error, 'strerror', None) or 'it is no text'}") from None
    if key and not re.fullmatch(r"[!-~]+", key):
        raise BadInput("the key must be one line of printable ASCII characters without spaces")  # and is not told
    return key


def state_folder(given: Path | None = None) -> Path:
    """Returns the folder where a party keeps its state: the one given, MLAAS_STATE, or ``./state``."""
    return given or Path(os.environ.get("MLAAS_STATE") or "state")


def _without_none(kind: Any) -> Any:
    arms = [arm for arm in typing.get_args(kind) if arm is not type(None)]
    if typing.get_origin(kind) in (typing.Union, types.UnionType) and len(arms) == 1:
        return arms[0]
    return kind
