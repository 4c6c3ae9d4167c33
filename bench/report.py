"""The report: one self-contained page."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def write(results: dict[str, Any], out: Path) -> Path:
    """Writes ``report.html`` to a folder and returns its path."""
    raise NotImplementedError
