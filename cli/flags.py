"""Makes command-line flags from dataclasses.

The fields of a method's dataclass are the flags of its command; the ``Attributes`` section of its docstring is
their help.
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import os
import re
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

METAVARS = {int: "N", float: "X", Path: "PATH"}


def summary(cls: type) -> str:
    """Returns the first line of a docstring."""
    return _plain(inspect.getdoc(cls) or "").partition("\n")[0]


def description(cls: type) -> str:
    """Returns a docstring without its ``Attributes`` section."""
    return _plain(inspect.getdoc(cls) or "").partition("Attributes:")[0].rstrip()


def _plain(text: str) -> str:
    """Strips the markup from a docstring."""
    return re.sub(r":\w+:`~?([^`]*)`", r"\1", text).replace("``", "")


def attribute_notes(cls: type) -> dict[str, str]:
    """Returns the text of each field in the ``Attributes`` sections of a class and of its base classes."""
    notes: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        section = inspect.cleandoc(base.__doc__ or "").partition("Attributes:\n")[2]
        found = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", section, re.MULTILINE)
        notes |= {name: re.sub(r"\s+", " ", text) for name, text in found}
    return notes


def at_least(least: int) -> Callable[[str], int]:
    """Returns an argparse ``type`` for whole numbers of at least ``least``."""

    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {least}")
        return int(text)

    return number


def add_fields(parser: argparse._ActionsContainer, cls: type, prefix: str = "") -> None:
    """Adds a flag to a parser for each field of a dataclass, with the field's default and documentation.

    A field's type may be int, float, str, bool, Path or Literal, a tuple of one of these, or one of these or None.
    """
    hints = typing.get_type_hints(cls)
    notes = attribute_notes(cls)
    for field in dataclasses.fields(cls):
        default = None if field.default is dataclasses.MISSING else field.default
        note = _plain(notes.get(field.name, "")).rstrip(".").replace("%", "%%")
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
            kind = typing.get_args(kind)[0]
            arguments |= {"type": kind, "nargs": "*", "metavar": METAVARS.get(kind)}
        elif typing.get_origin(kind) is typing.Literal:
            choices = typing.get_args(kind)
            arguments |= {"type": type(choices[0]), "choices": choices}
        else:
            arguments |= {"type": kind, "metavar": METAVARS.get(kind)}
        parser.add_argument("--" + (prefix + field.name).replace("_", "-"), **arguments)


def from_fields(cls: type[T], arguments: argparse.Namespace, prefix: str = "") -> T:
    """Builds a dataclass from the parsed flags of :func:`add_fields`."""
    values = {field.name: getattr(arguments, prefix + field.name) for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


class _Quiet(argparse.Action):
    """Switches off progress bars before tqdm is imported."""

    def __call__(self, *parsed: object) -> None:
        os.environ["TQDM_DISABLE"] = "1"


def add_quiet(parser: argparse._ActionsContainer) -> None:
    """Adds a flag that switches off progress bars."""
    parser.add_argument("--quiet", action=_Quiet, nargs=0, help="show no progress bars")


def _without_none(kind: Any) -> Any:
    arms = [arm for arm in typing.get_args(kind) if arm is not type(None)]
    if typing.get_origin(kind) in (typing.Union, types.UnionType) and len(arms) == 1:
        return arms[0]
    return kind
