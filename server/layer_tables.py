"""The tables of a stack in TOML: which defence each describes, and what is wrong with one that describes none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from defenses import (
    DEFENSES,
    DETECTORS,
    GENERATION,
    Consequence,
    Defense,
    GenerationDefense,
    Limit,
    Monitored,
    Stage,
)
from defenses.monitoring.prompts import MonitoredPrompts
from wire import BadInput


def layer_placed(home: Path, layer: dict[str, Any]) -> dict[str, Any]:
    """Returns a table whose members that name files are relative to a folder."""
    paths = {field.name for field in fields(defense_class(layer["type"])) if str(field.type).startswith("Path")}
    return {name: str(home / value) if name in paths else value for name, value in layer.items()}


def faults(error: ValidationError) -> str:
    """Returns what pydantic found wrong, each fault as ``place: what``."""
    found = error.errors()
    within = {fault["loc"][:1] for fault in found if len(fault["loc"]) > 1}
    faulty = []
    for fault in found:
        if fault["type"] == "too_short" and fault["loc"] in within:
            continue  # pydantic misses the parts in which it found faults
        place = ".".join(map(str, fault["loc"]))
        what = fault["msg"].removeprefix("Value error, ")
        faulty.append(f"{place}: {what}" if place else what)
    return "; ".join(faulty)


def defense_of(table: Mapping[str, Any]) -> Defense | Limit:
    """Returns the defence of a model of rows that a table of a stack describes.

    Args:
        table: The ``type`` of the defence and its fields.

    Raises:
        BadInput: There is no such defence, or the fields are not its own.
    """
    defense: Defense | Limit = check_table(table)
    if table["type"] in GENERATION:
        raise BadInput(f"{table['type']} is a layer of language models; this model answers about rows")
    return defense


def generation_of(table: Mapping[str, Any]) -> GenerationDefense | Limit:
    """Returns the defence of a language model that a table of a stack describes; see :func:`defense_of`."""
    defense = check_table(table)
    if isinstance(defense, Monitored):
        return MonitoredPrompts(defense)
    if is_about_rows(table):
        known = [*(kind for kind, cls in DEFENSES.items() if _limits(cls)), *GENERATION]
        raise BadInput(f"{table['type']} changes rows' answers; a language model takes {', '.join(known)}")
    found: GenerationDefense | Limit = defense
    return found


def is_about_rows(table: Mapping[str, Any]) -> bool:
    """Returns whether a table describes a layer that only models of rows have."""
    return table["type"] not in GENERATION and not _limits(defense_class(table["type"]))


def _limits(cls: Any) -> bool:
    return cls.stage is Stage.ADMISSION if hasattr(cls, "stage") else False


def check_table(table: Mapping[str, Any]) -> Any:
    """Returns the defence that a table describes, of whatever model; raises as :func:`defense_of`."""
    cls = defense_class(table.get("type"))
    kind = table["type"]
    classes = [cls, Consequence] if kind in DETECTORS else [cls]
    known = [name for each in classes for name in options(each)]
    for name in table:
        if name not in known and name != "type":
            raise BadInput(f"{kind} has no field {name!r}; it has {', '.join(known) or 'none'}")
    built = [_built(kind, each, table) for each in classes]
    return Monitored(built[0], kind, built[1]) if kind in DETECTORS else built[0]


def options(cls: Any) -> list[str]:
    """Returns the names of a defence's fields."""
    return [field.name for field in fields(cls) if field.init]


def _built(kind: str, cls: Any, table: Mapping[str, Any]) -> Any:
    given = {name: table[name] for name in options(cls) if name in table}
    try:
        return TypeAdapter(cls).validate_python(given, strict=False)
    except ValidationError as error:
        found = faults(error)
        raise BadInput(found if found.startswith(f"{kind}: ") else f"{kind}: {found}") from None


def defense_class(name: Any) -> Any:
    """Returns the class of a defence by its type, or raises :class:`~wire.BadInput`."""
    known = {**DEFENSES, **DETECTORS, **GENERATION}
    if not isinstance(name, str) or name not in known:
        raise BadInput(f"there is no defence {name!r}; there are {', '.join(known)}")
    return known[name]
