"""Runs claims and prints published and measured numbers side by side."""

from __future__ import annotations

import dataclasses
import json
import textwrap
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from experiments.claims.claim import Claim, Finding
from experiments.header import header
from experiments.lab import Lab
from experiments.parties import Parties
from wire import BadInput


def reproduce(
    claims: Mapping[str, Claim], *, out: Path | None, cache: Path, data: Path | None, seeds: range
) -> dict[str, Any]:
    """Runs claims; returns all that is found, behind the header.

    Args:
        claims: The claims by id.
        out: Folder of all that the run leaves; by default a temporary one, which is removed.
        cache: Folder of what a later run finds again.
        data: The user's data folder, if any.
        seeds: The seeds.
    """
    head = header({}, seeds=seeds)
    found = {}
    for name, claim in claims.items():
        start = time.perf_counter()
        with Parties(out and out / name) as parties:
            findings = claim.run(Lab(parties, cache, data, tuple(seeds)))
        found[name] = {
            "says": claim.SAYS,
            "source": claim.SOURCE,
            "settings": dataclasses.asdict(claim),
            **dataclasses.asdict(findings),
            "seconds": round(time.perf_counter() - start, 1),
        }
    return {**head, "claims": found}


def sized(claim: Claim, settings: Iterable[str]) -> Claim:
    """Returns a claim with other sizes.

    Args:
        claim: The claim.
        settings: ``FIELD=VALUE`` each; the value is JSON, or a plain text. A list becomes a tuple, and an object
            changes fields of a dataclass, such as ``training={"epochs": 2}``.

    Raises:
        BadInput: There is no such field, or the value is not of its kind.
    """
    known = {field.name: getattr(claim, field.name) for field in dataclasses.fields(claim)}
    changed: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or name not in known:
            raise BadInput(f"--set {setting}: {claim.ID} has {', '.join(known)}; expected FIELD=VALUE of these")
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        changed[name] = _like(known[name], value, setting)
    return dataclasses.replace(claim, **changed)


def _like(known: Any, value: Any, setting: str) -> Any:
    """Returns a value as a field of this default has it."""
    if isinstance(known, tuple) and isinstance(value, list):
        return tuple(_like(known[0], part, setting) if known else part for part in value)
    if dataclasses.is_dataclass(known) and not isinstance(known, type) and isinstance(value, dict):
        try:
            changed = {name: _like(getattr(known, name), part, setting) for name, part in value.items()}
            return dataclasses.replace(known, **changed)
        except (TypeError, AttributeError):
            pass
    elif type(value) is type(known) or (isinstance(known, float) and type(value) is int):
        return value
    raise BadInput(f"--set {setting}: expected a value like {known!r}")


def table(results: Mapping[str, Any]) -> str:
    """Formats results for a person: published and measured numbers side by side."""
    return "\n\n".join("\n".join(_claim(name, found)) for name, found in results["claims"].items())


def _claim(name: str, found: Mapping[str, Any]) -> list[str]:
    lines = textwrap.wrap(f"{name}: {found['says']} ({found['source']})", 110)
    cells = [("what", "published", "measured", "spread", "baseline")]
    rows = [Finding(**row) for row in found["rows"]]
    cells += [(row.what, row.published, _measured(row), _spread(row), row.baseline) for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    setting = None
    for index, line in enumerate(cells):
        if index and rows[index - 1].setting != setting:
            setting = rows[index - 1].setting
            lines += ["", *textwrap.wrap(setting, 110)]
        lines.append(
            "  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        )
    for note in found["notes"]:
        lines += textwrap.wrap(f"- {note}", 110, subsequent_indent="  ")
    return lines


def _spread(row: Finding) -> str:
    seeds = f"{len(row.seeds)} seed{'s' * (len(row.seeds) != 1)}"
    return f"{_number(row, row.low)} to {_number(row, row.high)} ({row.spread}; {seeds})"


def _measured(row: Finding) -> str:
    unit = "" if row.unit == "share" or row.measured is None else f" {row.unit}"
    return _number(row, row.measured) + unit


def _number(row: Finding, number: float | None) -> str:
    if number is None:
        return "never"
    return f"{number:.1%}" if row.unit == "share" else f"{number:,.6g}"
