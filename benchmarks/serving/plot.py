"""Draws latency by rate, and speed by connections, victims and rows sent before."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from wire import BadInput

_AXES = (
    ("open-loop", r"(.*) 1x128 at (\d+)/s", "p99", "requests per second that fall due", "99th percentile, ms"),
    ("connections", r"(.*) 1x(\d+)", "speed", "connections, one row each", "rows per second"),
    ("victims", r"(.*) 1x32(?: over (\d+) victims)?", "speed", "victims, 32 connections", "rows per second"),
    ("history", r"(.*) 64x1 after (\d+) rows", "p50", "rows sent before, PRADA", "median latency, ms"),
)
"""The part, its names (a line, then a number), the figure, and the labels."""


def plot(results: dict[str, Any], file: Path) -> None:
    """Draws those of the four parts that were run: medians, least and most.

    Args:
        results: The results.
        file: Where to write; its ending tells the form.

    Raises:
        BadInput: None of the four was run.
    """
    from matplotlib.figure import Figure

    machine, settings = results["machine"], results["settings"]
    drawn = [axis for axis in _AXES if axis[0] in results["parts"]]
    if not drawn:
        raise BadInput(f"--plot: expected one of the parts {', '.join(part for part, *_ in _AXES)}")
    figure = Figure(figsize=(5 * len(drawn), 4), layout="constrained")
    figure.suptitle(
        f"{machine['cpu']}, {machine['cores']} cores shared with the client; "
        f"{settings['rounds']} rounds of {settings['seconds']:g} s",
        fontsize="medium",
    )
    panels = figure.subplots(1, len(drawn), squeeze=False)[0]
    for axes, (part, names, entry, x, y) in zip(panels, drawn, strict=True):
        lines: dict[str, list[tuple[int, dict[str, Any]]]] = {}
        for name, measured in results["parts"][part]["figures"].items():
            if (found := re.fullmatch(names, name)) and entry in measured:
                lines.setdefault(found[1], []).append((int(found[2] or 1), measured[entry]))
        for label, points in lines.items():
            at, values = zip(*sorted(points, key=lambda point: point[0]), strict=True)
            low, median, high = ([value[kind] for value in values] for kind in ("low", "median", "high"))
            axes.plot(at, median, marker="o", label=label)
            axes.fill_between(at, low, high, alpha=0.2)
        axes.set(xlabel=x, ylabel=y, title=part, xscale="symlog" if part == "history" else "log", ylim=(0, None))
        axes.legend(fontsize="small")
    figure.savefig(file)
