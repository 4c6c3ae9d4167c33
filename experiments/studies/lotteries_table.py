"""Tables of a study of lotteries."""

from __future__ import annotations

from typing import Any


def table(results: dict[str, Any]) -> str:
    """Formats power, level and calibration."""
    return ""
