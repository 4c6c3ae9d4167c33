"""The folder of an attack's results: unfinished until it has ended, and rescued if it never does."""

from __future__ import annotations

import itertools
import json
import platform
import re
import shutil
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from filelock import FileLock, Timeout

from attacker.journal import save_transfer
from wire import BadInput, WireError

PACKAGES = ("numpy", "torch", "httpx")
ARTEFACTS = (
    *("surrogate", "student", "inverted.npz", "scores.npz", "transfer.npz"),
    *("output_layer.npz", "likelihoods.npz", "guesses.json", "transfer.jsonl"),
)
RESULT = "result.json"
UNFINISHED, JOURNAL, TOLD, LOCK = "unfinished", "journal.npy", "told.jsonl", ".lock"


class Rescued(NamedTuple):
    """The saved answers of a run that was killed.

    Attributes:
        what: How many answers of which kind.
        path: Their file.
    """

    what: str
    path: Path


class Known(Protocol):
    """A connection whose server may tell of the account."""

    def account(self) -> dict[str, Any] | None:
        """Returns the server's record of the account; None if it keeps none."""
        ...


def rescue(out: Path) -> Rescued | None:
    """Saves the answers of an interrupted run, and removes its other files.

    Args:
        out: Folder of the run's results.

    Returns:
        What was saved; None if there are no answers.

    Raises:
        BadInput: The run is still in progress.
    """
    begun, kept = out / UNFINISHED, None
    if not begun.exists():
        return None
    try:
        with FileLock(begun / LOCK, timeout=0):
            if (begun / JOURNAL).exists():
                path = _new(out, ".npz")
                kept = Rescued(f"{save_transfer(begun / JOURNAL, path)} answered rows", path)
            elif (begun / TOLD).exists():
                path = (begun / TOLD).replace(_new(out, ".jsonl"))
                requests = path.read_bytes().count(b"\n")
                kept = Rescued(f"{requests} answered requests", path)
            shutil.rmtree(begun)
    except Timeout:
        raise BadInput(f"{out}: another attack is still writing to this folder; choose another one") from None
    return kept


def _new(out: Path, suffix: str) -> Path:
    """Returns the first file of rescued answers that does not exist."""
    return next(path for n in itertools.count(1) if not (path := out / f"rescued-{n}{suffix}").exists())


def finish(out: Path, result: Mapping[str, Any]) -> dict[str, Any]:
    """Puts an attack's results in the place of an earlier run's, and returns the content of ``result.json``.

    The earlier ``result.json`` goes first, and the new one comes last.
    """
    versions = {"python": platform.python_version(), **{package: version(package) for package in PACKAGES}}
    new, values = out / UNFINISHED, plain({**result, "versions": versions})
    (new / RESULT).write_text(json.dumps(values, indent=2) + "\n")
    for name in (RESULT, *ARTEFACTS):
        shutil.rmtree(out / name, ignore_errors=True)
        (out / name).unlink(missing_ok=True)
    for name in (*ARTEFACTS, RESULT):
        if (new / name).exists():
            (new / name).replace(out / name)
    shutil.rmtree(new)
    return values


def accounts(endpoints: Sequence[Known]) -> dict[str, Any] | list[dict[str, Any] | None] | None:
    """Returns the server's record of the account, if it discloses one; a list of them if there are several."""
    found: list[dict[str, Any] | None] = []
    for endpoint in endpoints:
        try:
            found.append(endpoint.account())
        except WireError:
            found.append(None)
    return found[0] if len(found) == 1 else found


def shown(url: str) -> str:
    """Returns a URL without the name and the password in it."""
    return re.sub("//[^/@]*@", "//", url)


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Converts values to JSON types: paths to strings, tuples to lists."""
    found: dict[str, Any] = json.loads(json.dumps(values, default=str))
    return found
