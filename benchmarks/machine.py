"""The machine on which a benchmark runs: its processor, and how much of it each process uses."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from experiments.processes import process_tree

_FIELDS = {"vendor_id": "vendor", "cpu family": "family", "model": "model", "stepping": "stepping"}
_WIDE = ("avx2", "avx512", "avx_vnni", "amx")  # the instructions by which engines of one name differ in speed


def processor() -> dict[str, Any]:
    """Returns the vendor, family, model and stepping of the processor, and which wide instructions it has.

    Virtual machines hide the processor's name, but not its family and model. Empty where there is no /proc.
    """
    found: dict[str, Any] = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = (part.strip() for part in line.partition(":"))
            if name == "flags":
                found["flags"] = sorted(flag for flag in value.split() if flag.startswith(_WIDE))
            elif name in _FIELDS:
                found[_FIELDS[name]] = int(value) if value.isdecimal() else value
    return found


def cpu_seconds(pids: Sequence[int]) -> float:
    """Returns the CPU time of processes and their descendants, in seconds.

    The kernel's times of a process are exact to a tick, and include threads that have ended.
    """
    total = 0.0
    for process in (member for pid in pids for member in process_tree(pid)):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


@dataclass(frozen=True)
class Clocks:
    """The time, and the CPU seconds until then.

    Attributes:
        wall: The time, in seconds.
        server: CPU time of some processes and their descendants.
        client: CPU time of this process.
        all: CPU time of everything on this machine.
        steal: Time in which the hypervisor ran something else though this machine wanted to run.
    """

    wall: float
    server: float
    client: float
    all: float
    steal: float

    @classmethod
    def read(cls, pids: Sequence[int] = ()) -> Clocks:
        """Reads all clocks."""
        times = psutil.cpu_times()
        busy = sum(getattr(times, kind, 0.0) for kind in ("user", "nice", "system", "irq", "softirq"))
        steal = getattr(times, "steal", 0.0)
        return cls(time.perf_counter(), cpu_seconds(pids), time.process_time(), busy, steal)

    def since(self, start: Clocks) -> Clocks:
        """Returns what has passed since."""
        return Clocks(*(getattr(self, name) - getattr(start, name) for name in self.__dataclass_fields__))
