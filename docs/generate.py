"""Writes the reference pages from the code: ``python docs/generate.py``; with ``--check`` it only compares.

The commands come from their argument parsers, the TOML tables from the server's settings, and the methods from
their dataclasses. Descriptions are those of the docstrings' ``Attributes`` sections.
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import os
import re
import sys
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cli.__main__ import COMMANDS
from cli.command import Parser
from cli.registry import resolve

REFERENCE = Path(__file__).parent / "reference"
NOTE = "<!-- Generated from the code by `python docs/generate.py`. Do not edit. -->"


def main(argv: list[str] | None = None) -> int:
    """Writes the pages, or says which of them are stale."""
    parser = argparse.ArgumentParser(description="Writes docs/reference from the code.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a page is stale")
    check = parser.parse_args(argv).check
    stale = []
    for name, text in pages().items():
        path = REFERENCE / name
        if path.exists() and path.read_text() == text:
            continue
        stale.append(name)
        if not check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
    for name in stale:
        print(f"{'stale' if check else 'written'}: docs/reference/{name}")
    return int(check and bool(stale))


def pages() -> dict[str, str]:
    """Returns the text of each reference page by its file name."""
    for name in [name for name in os.environ if name.startswith("MLAAS_")]:
        del os.environ[name]  # they are defaults of flags, and no part of the reference
    return {
        "commands.md": _page("Commands", commands()),
        "configuration.md": _page("The server's TOML file", configuration()),
        "methods.md": _page("Methods and their fields", methods()),
    }


def _page(title: str, blocks: Iterator[str]) -> str:
    return "\n\n".join([f"# {title}", NOTE, *blocks]) + "\n"


# --- commands ---------------------------------------------------------------------------------------------------


def commands() -> Iterator[str]:
    """Yields the reference of every command, from the argument parsers."""
    yield (
        "`MLAAS_URL`, `MLAAS_KEY`, `MLAAS_KEY_FILE`, `MLAAS_DATA` and `MLAAS_STATE` stand in for the flags of the "
        "same names."
    )
    for parser in parsers():
        yield from _command(parser)


def parsers() -> Iterator[Parser]:
    """Yields the parser of each party's command."""
    for name, (target, _) in COMMANDS.items():
        yield _parser_of(resolve("cli.train:main" if name == "train" else target), f"mlaas-range {name}")


class _Parsed(Exception):
    pass


def _parser_of(main: Any, prog: str) -> Parser:
    """Returns the parser with which a command's main function begins."""
    kept = argparse.ArgumentParser.parse_args

    def parse_args(self: argparse.ArgumentParser, *arguments: Any) -> Any:
        raise _Parsed(self)

    argparse.ArgumentParser.parse_args = parse_args  # type: ignore[assignment,method-assign]
    try:
        main([], prog)
    except _Parsed as parsed:
        return typing.cast(Parser, parsed.args[0])
    finally:
        argparse.ArgumentParser.parse_args = kept  # type: ignore[method-assign]
    raise AssertionError(f"{prog} parses no arguments")


def _command(parser: Parser, depth: int = 2, about: str = "") -> Iterator[str]:
    parser.fill()
    yield f"{'#' * min(depth, 4)} `{parser.prog}`"
    if text := parser.description or about:
        yield _paragraphs(text)
    rows = []
    inner: list[argparse._SubParsersAction[Any]] = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            inner.append(action)
        elif not isinstance(action, argparse._HelpAction) and action.help != argparse.SUPPRESS:
            rows.append((_usage(action), _help(parser, action)))
    if rows:
        yield _table(("argument", "meaning"), rows)
    for group in inner:
        helps = {choice.dest: choice.help or "" for choice in group._choices_actions}
        for name, sub in group.choices.items():
            yield from _command(sub, depth + 1, helps.get(name, ""))


def _usage(action: argparse.Action) -> str:
    names = ", ".join(f"`{name}`" for name in action.option_strings) or f"`{action.metavar or action.dest}`"
    if action.choices is not None:
        names += " " + " \\| ".join(f"`{choice}`" for choice in action.choices)
    return names + (" (required)" if action.required and action.option_strings else "")


def _help(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    text = (action.help or "").replace("(default: %(default)s)", "").strip()
    text = parser._get_formatter()._expand_help(argparse.Action([], "", help=text)) if text else ""
    if "default" not in text and action.default not in (None, argparse.SUPPRESS, (), []):
        text += f" (default: `{_value(action.default)}`)"
    return _cell(text)


# --- configuration ----------------------------------------------------------------------------------------------


def configuration() -> Iterator[str]:
    """Yields the tables of the server's TOML, from its settings."""
    from server.http.origins import OriginSettings
    from server.settings import Plan, Recipe, Settings, Victim

    yield (
        "Paths are relative to the file. The tables under `defenses` are those of "
        "[the methods](methods.md#defences): a `type` and the fields of that type."
    )
    for title, cls in (
        ("Top level", Settings),
        ("`[plans.NAME]`", Plan),
        ("`[[victims]]`", Victim),
        ("`recipe`", Recipe),
        ("`[origins]`", OriginSettings),
    ):
        yield f"## {title}"
        yield _paragraphs((inspect.getdoc(cls) or "").partition("\nAttributes:")[0])
        notes = _attributes(cls)
        rows = [
            (f"`{name}`", _kind(field.annotation), _default(field), _cell(notes.get(name, "")))
            for name, field in cls.model_fields.items()
        ]
        yield _table(("key", "type", "default", "meaning"), rows)


def _default(field: Any) -> str:
    if field.is_required():
        return "required"
    return "" if field.default in (None, ()) else f"`{_value(field.default)}`"


# --- methods ----------------------------------------------------------------------------------------------------


def methods() -> Iterator[str]:
    """Yields every registered method with its fields and its source."""
    from attacker import EXTRACTION, INVERSION, LANGUAGE, MEMBERSHIP
    from defenses import DEFENSES, DETECTORS, GENERATION, Consequence
    from owner import PROOFS, TEXT_PROOFS

    yield "Each method is one dataclass; its fields are flags of a command or keys of a TOML table."
    kinds: tuple[tuple[str, Mapping[str, type]], ...] = (
        ("Extraction attacks", EXTRACTION),
        ("Membership attacks", MEMBERSHIP),
        ("Inversion attacks", INVERSION),
        ("Attacks on language models", LANGUAGE),
        ("Defences", DEFENSES),
        ("Defences of language models", GENERATION),
        ("Detectors", DETECTORS),
        ("What every detector's table also takes", {"": Consequence}),
        ("Proofs of ownership", PROOFS),
        ("Proofs about language models", TEXT_PROOFS),
    )
    for title, registered in kinds:
        yield f"## {title}"
        for name, cls in registered.items():
            if name:
                yield f"### `{name}`"
            yield _paragraphs((inspect.getdoc(cls) or "").partition("\nAttributes:")[0])
            if source := _source(cls):
                yield f"Source: {source}"
            notes, hints = _attributes(cls), typing.get_type_hints(cls)
            rows = [
                (f"`{f.name}`", _kind(hints[f.name]), _field_default(f), _cell(notes.get(f.name, "")))
                for f in dataclasses.fields(cls)
                if f.init and notes.get(f.name)
            ]
            if rows:
                yield _table(("field", "type", "default", "meaning"), rows)


def _source(cls: type) -> str:
    text = inspect.getdoc(sys.modules[cls.__module__]) or ""
    found = re.search(r"^Source: (.*(?:\n\S.*)*)", text, re.MULTILINE)
    return re.sub(r"\s+", " ", found[1]) if found else ""


def _field_default(field: dataclasses.Field[Any]) -> str:
    if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
        return "required"
    default = field.default if field.default is not dataclasses.MISSING else field.default_factory()  # type: ignore[misc]
    return "" if default in (None, ()) else f"`{_value(default)}`"


# --- words ------------------------------------------------------------------------------------------------------


def _attributes(cls: type) -> dict[str, str]:
    """Returns the description of each field, from the docstring's ``Attributes`` section."""
    notes: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        section = inspect.cleandoc(base.__doc__ or "").partition("Attributes:\n")[2]
        for name, text in re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", section, re.MULTILINE):
            notes[name] = re.sub(r"\s+", " ", text)
    return notes


def _kind(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return " \\| ".join(f"`{value}`" for value in arguments)
    if origin is typing.Annotated:
        return _kind(arguments[0])
    if origin is tuple:
        return f"list of {_kind(arguments[0])}"
    if origin is dict:
        return "table" if arguments[1] is Any else f"tables of {_kind(arguments[1])}"
    arms = [arm for arm in arguments if arm is not type(None)]
    if len(arms) < len(arguments) or len(arms) > 1:
        return " or ".join(map(_kind, arms))
    words = {"int": "whole number", "float": "number", "str": "string", "bool": "true or false", "Path": "path"}
    return words.get(getattr(hint, "__name__", ""), getattr(hint, "__name__", str(hint)))


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return " ".join(map(_value, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _paragraphs(text: str) -> str:
    return "\n\n".join(_marked(part) for part in re.split(r"\n\s*\n", text.strip()))


def _marked(text: str) -> str:
    """Returns the text of a docstring as Markdown."""
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", re.sub(r"\s+", " ", text))
    return text.replace("``", "`").replace(" - ", "\n- ")


def _cell(text: str) -> str:
    return _marked(text).replace("|", "\\|").replace("\n", " ")


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
