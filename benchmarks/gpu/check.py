"""Runs the phases of the check, each in a process of its own that is ended when its time is over."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.gpu.models import smi
from experiments.header import header
from experiments.processes import Processes

PHASES = {"served": 233.0, "forwards": 132.0, "workers": 175.0}
"""The modules, each with the seconds that it may take where a measurement takes :data:`SECONDS`."""

SECONDS = 2.0
SHORTEST = 0.6  # of a limit, however short the measurements
RAW = 0.1  # part of a measurement that a raw forward pass takes: there are hundreds
_GPU = (
    "name",
    "driver_version",
    "memory.total",
    "pcie.link.gen.current",
    "pcie.link.width.current",
    "clocks.sm",
    "clocks.max.sm",
    "clocks.mem",
    "power.draw",
    "power.limit",
    "temperature.gpu",
)


@dataclass
class Check:
    """The check.

    Attributes:
        seconds: Length of a measurement over HTTP; the limits of the phases change with it, down to
            :data:`SHORTEST`.
        file: Where all figures are written, after every one of them; None for nowhere.
        phases: The phases to run, with their limits.
        say: Is given a line of progress.
    """

    seconds: float
    file: Path | None
    phases: dict[str, float] = field(default_factory=lambda: dict(PHASES))
    say: Callable[[str], object] = sys.stderr.write

    def run(self) -> dict[str, Any]:
        """Runs the phases; returns the figures, behind the header."""
        results = header({"seconds": self.seconds}) | {"gpu": _gpu()}
        self._write(results)
        with Processes() as processes:
            for name, limit in self.phases.items():
                command = command_of(name, self.seconds)
                self._run(processes, name, command, limit * max(SHORTEST, self.seconds / SECONDS), results)
        compare(results)
        results["gpu_afterwards"] = _gpu()
        self._write(results)
        return results

    def _run(
        self, processes: Processes, name: str, command: list[str], limit: float, results: dict[str, Any]
    ) -> None:
        """Runs a phase, and takes its lines of figures as they come."""
        start = time.monotonic()
        process = processes.start(name, command, Path.cwd())
        entries: list[dict[str, Any]] = results.setdefault(name, [])
        with processes.log(name).open() as log:
            ended, rest = False, ""
            while not ended:
                ended = process.poll() is not None
                cut = not ended and time.monotonic() - start > limit
                if cut:
                    processes.end(process)
                    ended = True
                *lines, rest = (rest + log.read()).split("\n")
                for line in lines:
                    if line.startswith("{"):
                        entries.append(json.loads(line))
                        self.say(f"{name} {time.monotonic() - start:.0f} s: {line}\n")
                        self._write(results)
                    elif line:
                        results.setdefault("log", []).append(f"{name}: {line}")
                if not ended:
                    time.sleep(0.1)
        took = time.monotonic() - start
        results.setdefault("phases", {})[name] = {"seconds": took, "limit": limit, "status": process.returncode}
        if process.returncode:
            self.say(f"{name} was ended after {took:.0f} s, or failed, with status {process.returncode}\n")
        self._write(results)

    def _write(self, results: dict[str, Any]) -> None:
        if self.file is not None:
            self.file.write_text(json.dumps(results, indent=1) + "\n")


def command_of(phase: str, seconds: float) -> list[str]:
    """Returns the command line of a phase."""
    share = RAW if phase == "forwards" else 1.0
    return [sys.executable, "-m", f"benchmarks.gpu.{phase}", f"{share * seconds:g}"]


def compare(results: dict[str, Any]) -> None:
    """Sets what is served beside the fastest raw pass of its model in float32, over rows in memory."""
    best: dict[str, float] = {}
    for raw in results.get("forwards", ()):
        if (
            raw.get("input") in ("pinned", "pageable")
            and raw["way"] != "searched"
            and raw["precision"] == "float32"
        ):
            best[raw["model"]] = max(best.get(raw["model"], 0.0), raw["rows_per_second"])
    for entry in results.get("served", ()):
        raw_speed = best.get(entry["model"])
        entry["part_of_best_raw"] = entry["rows_per_second"] / raw_speed if raw_speed else None


def _gpu() -> list[dict[str, str]]:
    return [dict(zip(_GPU, told, strict=True)) for told in smi("gpu", *_GPU)]
