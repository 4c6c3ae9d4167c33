"""Draws the entropies of members and non-members beside the precision of an attack, from the results of E2."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

COLOURS = {"members": "#b2182b", "non-members": "#2166ac"}


def draw(results: Mapping[str, Any], path: Path) -> None:
    """Writes a figure with a panel for each data set.

    Args:
        results: The results of ``experiments reproduce E2``.
        path: The file: SVG or PNG, by its ending.

    Raises:
        KeyError: The results are of other claims.
    """
    more = results["claims"]["E2"]["more"]
    figure = Figure(figsize=(3.2 * len(more["entropies"]), 2.6), layout="constrained")
    panels = figure.subplots(1, len(more["entropies"]), squeeze=False)[0]
    for axes, (data, histograms) in zip(panels, more["entropies"].items(), strict=True):
        for side, shares in histograms.items():
            edges = [index / len(shares) for index in range(len(shares) + 1)]
            axes.stairs(shares, edges, label=side, color=COLOURS[side], linewidth=1.5)
        first = next(iter(more["measured"][data].values()))
        axes.set_title(f"{data}: precision {first['shadow']['precision'][0]:.3f}", fontsize=9)
        axes.set_yscale("log")
        axes.set_xlabel("normalised entropy")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("share of rows")
    panels[0].legend(frameon=False, fontsize=8)
    with matplotlib.rc_context({"svg.hashsalt": "E2"}):
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=150)
