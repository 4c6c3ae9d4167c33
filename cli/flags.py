"""Flags made of dataclasses.

A method's dataclass is its command: its fields are the flags, and the ``Attributes`` of its docstring are their
help.
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

from wire.http import CardOptions

T = TypeVar("T")


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


def _without_none(kind: Any) -> Any:
    arms = [arm for arm in typing.get_args(kind) if arm is not type(None)]
    if typing.get_origin(kind) in (typing.Union, types.UnionType) and len(arms) == 1:
        return arms[0]
    return kind
