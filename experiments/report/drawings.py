"""Draws what claims found: the entropies of E2, the images of E10."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from wire import BadInput

COLOURS = {"members": "#b2182b", "non-members": "#2166ac"}


def draw(results: Mapping[str, Any], path: Path) -> None:
    """Writes a figure of a claim's results.

    Args:
        results: The results of ``experiments reproduce``, of a claim in :data:`DRAWINGS`.
        path: The file: SVG or PNG, by its ending.

    Raises:
        BadInput: The results are of other claims.
    """
    name = next((name for name in results.get("claims", {}) if name in DRAWINGS), None)
    if name is None:
        raise BadInput(f"these are no results of {' or '.join(DRAWINGS)}, which can be drawn")
    figure = DRAWINGS[name](results["claims"][name]["more"])
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(
            path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=80, bbox_inches="tight"
        )


def _entropies(more: Mapping[str, Any]) -> Figure:
    """Draws the entropies of members and of non-members, a panel for each data set."""
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
    return figure


def _images(more: Mapping[str, Any]) -> Figure:
    """Draws the rows that were made of each class, a line for each method, of each victim."""
    lines = [(victim, how, x) for victim, made in more["pictures"].items() for how, x in made.items()]
    side = round(len(lines[0][2][0]) ** 0.5)
    figure = Figure(figsize=(0.5 * len(lines[0][2]) + 2, 0.55 * len(lines)), layout="constrained")
    for axes, (victim, how, x) in zip(figure.subplots(len(lines), 1), lines, strict=True):
        strip = np.concatenate([np.reshape(row, (side, side)) for row in x], axis=1)
        axes.imshow(strip, cmap="gray_r", vmin=0, vmax=255, interpolation="nearest")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
        axes.set_ylabel(f"{victim}, {how}", rotation=0, ha="right", va="center", fontsize=8)
    return figure


DRAWINGS = {"E2": _entropies, "E10": _images}
"""The figures, by claim."""
