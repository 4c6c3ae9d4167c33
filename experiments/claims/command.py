"""The command: claims are run one by one, printed and written down."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import platform
import tempfile
import textwrap
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.serving.rounds import cpu_model
from cli.flags import at_least
from experiments.claims.claim import Claim, Finding
from experiments.claims.dawn_removal import C4
from experiments.claims.prada_detection import B1
from experiments.claims.prada_hoda import B2
from experiments.lab import Lab
from experiments.processes import Parties
from zoo.cache import state_folder
from zoo.data import data_folder

CLAIMS: dict[str, Claim] = {claim.ID: claim for claim in (B1(), B2(), C4())}

_PACKAGES = ("numpy", "scipy", "torch", "onnxruntime", "fastapi", "httpx")


def add(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    told = ", ".join(CLAIMS)
    parser.add_argument("claims", nargs="+", choices=list(CLAIMS), metavar="CLAIM", help=f"which of {told}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all that was found there")
    parser.add_argument("--seeds", type=at_least(1), default=3, metavar="N", help="seeds 0 to N - 1 (default: 3)")
    parser.add_argument("--data", type=Path, help="folder where data sets lie (MLAAS_DATA)")
    parser.add_argument("--state", type=Path, help="folder that outlasts the run (MLAAS_STATE; default: state)")
    parser.add_argument("--out", type=Path, help="folder for configurations, stores and logs (default: removed)")


def run(arguments: argparse.Namespace) -> str:
    """Runs the claims; returns the table."""
    claims = {name: CLAIMS[name] for name in dict.fromkeys(arguments.claims)}
    state, data = state_folder(arguments.state).resolve(), data_folder(arguments.data)
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="mlaas-reproduce-") as work:
        out = Path(arguments.out or work).resolve()
        for name, claim in claims.items():
            one = reproduce(
                {name: claim},
                out=out,
                cache=state / "cache",
                data=data and data.resolve(),
                seeds=range(arguments.seeds),
            )
            results = {**one, "claims": {**results.get("claims", {}), **one["claims"]}}
            if arguments.json is not None:  # after each, since the next may fail after hours
                arguments.json.write_text(json.dumps(results, indent=1) + "\n")
    return table(results)


def reproduce(
    claims: Mapping[str, Claim], *, out: Path, cache: Path, data: Path | None, seeds: range
) -> dict[str, Any]:
    """Runs claims; returns what is written down of them.

    Args:
        claims: The claims by id.
        out: Folder of what the run leaves.
        cache: Folder for what a later run finds again.
        data: The user's data folder, if any.
        seeds: The seeds.
    """
    found = {}
    for name, claim in claims.items():
        start = time.perf_counter()
        with Parties(out / name / "logs") as parties:
            findings = claim.run(Lab(parties, out / name, cache, data, tuple(seeds)))
        found[name] = {
            "says": claim.SAYS,
            "source": claim.SOURCE,
            "settings": dataclasses.asdict(claim),
            **dataclasses.asdict(findings),
            "seconds": round(time.perf_counter() - start, 1),
        }
    return {
        "date": datetime.date.today().isoformat(),
        "seeds": list(seeds),
        "machine": {"cpu": cpu_model(), "platform": platform.platform()},
        "versions": {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
        "claims": found,
    }


def table(results: Mapping[str, Any]) -> str:
    """Returns what a person reads of a run's results: published and measured, side by side."""
    return "\n\n".join("\n".join(_claim(name, found)) for name, found in results["claims"].items())


def _claim(name: str, found: Mapping[str, Any]) -> list[str]:
    lines = textwrap.wrap(f"{name}: {found['says']} ({found['source']})", 110)
    cells = [("what", "published", "measured", "spread", "baseline")]
    rows = [Finding(**row) for row in found["rows"]]
    cells += [(row.what, row.published, _told(row), _spread(row), row.baseline) for row in rows]
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


def _told(row: Finding) -> str:
    unit = "" if row.unit == "share" or row.measured is None else f" {row.unit}"
    return _number(row, row.measured) + unit


def _number(row: Finding, number: float | None) -> str:
    if number is None:
        return "never"
    return f"{number:.1%}" if row.unit == "share" else f"{number:,.6g}"
