"""Fields of a detector on the command line: ``--set FIELD=VALUE``."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from server.layer_tables import layer_placed
from wire import BadInput


def overrides(table: Mapping[str, Any], kind: str, given: Sequence[str], config: Path | None) -> dict[str, Any]:
    """Returns a detector's table with the fields that were given, so that it holds in any configuration.

    Args:
        table: The table so far; empty if there is none.
        kind: The detector's type.
        given: What was given, each as ``FIELD=VALUE`` in TOML; a string may go without quotes.
        config: The configuration, in whose folder files are sought.

    Raises:
        BadInput: It is not in this form.
    """
    fields = {field: value for each in given for field, value in _field(each).items()}
    folder = Path() if config is None else config.parent
    return layer_placed(Path.cwd(), {**table, **layer_placed(folder, {"type": kind, **fields})})


def _field(given: str) -> dict[str, Any]:
    name, _, value = given.partition("=")
    for written in (given, f"{name}={json.dumps(value)}"):  # a string may go without quotes, as a shell leaves it
        with suppress(tomllib.TOMLDecodeError):
            return tomllib.loads(written)
    raise BadInput(f"--set {given}: expected FIELD=VALUE as in TOML")
