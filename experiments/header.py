"""The head of every file of results: when, by which version, on which machine, with which settings."""

from __future__ import annotations

import contextlib
import datetime
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from wire.version import VERSION

PACKAGES = (
    "torch",
    "onnxruntime",
    "numpy",
    "scipy",
    "scikit-learn",
    "fastapi",
    "uvicorn",
    "uvloop",
    "httptools",
    "httpx",
    "redis",
)


def header(settings: Mapping[str, Any], *, seeds: Sequence[int] = ()) -> dict[str, Any]:
    """Describes a run; call it before the run, since it reads the machine's load.

    Args:
        settings: The sizes and hyper-parameters of the run.
        seeds: Its seeds, if they are not among the settings.

    Returns:
        ``date``, ``version``, ``commit``, ``machine``, ``versions``, ``seeds`` and ``settings``, all fit for JSON.
        The commit is None outside a repository, and ends in ``-dirty`` if files were changed; the version of a
        package that is not installed is None.
    """
    return {
        "date": datetime.date.today().isoformat(),
        "version": VERSION,
        "commit": _commit(),
        "machine": {
            "cpu": cpu_model(),
            "cores": cores(),
            "platform": platform.platform(),
            "load_before": [round(load, 2) for load in os.getloadavg()],
        },
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "seeds": list(seeds),
        "settings": dict(settings),
    }


def cores() -> int:
    """Returns the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_model() -> str:
    """Returns the processor's name for itself."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    root = Path(__file__).parent.parent
    if not (root / ".git").exists():  # installed; a repository further up would be another one
        return None
    described = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    with contextlib.suppress(OSError):
        found = subprocess.run(described, capture_output=True, text=True)
        return found.stdout.strip() or None
    return None
