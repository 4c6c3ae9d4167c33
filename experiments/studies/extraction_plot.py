"""Draws agreement against rows and against money, a row of panels for each method."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cli.money import MICRO
from experiments.studies.extraction import ANSWERS, NULL


def plot(results: Mapping[str, Any], file: Path) -> None:
    """Draws the mean over seeds with its 95 % interval.

    Args:
        results: The results.
        file: Where to write; its ending tells the form.
    """
    from matplotlib.figure import Figure

    panels: dict[tuple[Any, ...], dict[str, list[Mapping[str, Any]]]] = {}
    nulls: dict[str, list[Mapping[str, Any]]] = {}
    for row in (row for row in results["thefts"] if "agreement" in row):
        if row["method"] == NULL:
            nulls.setdefault(row["victim"], []).append(row)
            continue
        key = (row["method"], row["victim"], row["pool"], row["architecture"])
        panels.setdefault(key, {}).setdefault(row["answer"], []).append(row)
    told = {answer for answers in panels.values() for answer in answers}
    columns = 4
    deep = -(-len(panels) // 2)
    figure = Figure(figsize=(4 * columns, 2.6 * deep), layout="constrained")
    axes = figure.subplots(deep, columns, squeeze=False)
    for axis in axes.flat[2 * len(panels) :]:
        axis.axis("off")
    for place, (key, answers) in enumerate(panels.items()):
        by_rows, by_money = axes[place // 2][2 * (place % 2) : 2 * (place % 2) + 2]
        for colour, answer in enumerate(ANSWERS):
            if answer not in told:
                continue
            rows = sorted(answers.get(answer, []), key=lambda row: row["asked"])
            mean, low, high = ([100 * row["agreement"][part] for row in rows] for part in range(3))
            for axis, at in (
                (by_rows, [row["asked"] for row in rows]),
                (by_money, [row["money"] / MICRO for row in rows]),
            ):
                axis.plot(at, mean, marker="o", markersize=3, color=f"C{colour}", label=answer)
                axis.fill_between(at, low, high, color=f"C{colour}", alpha=0.12, linewidth=0)
                axis.set_ylim(0, 102)
        null = nulls.get(key[1], [])
        by_rows.plot([r["rows"] for r in null], [100 * r["agreement"][0] for r in null], "k--", label=NULL)
        by_rows.set(xscale="log", xlabel="rows answered", ylabel="agreement, %")
        by_money.set(xscale="log", xlabel="money")
        by_rows.set_title(f"{key[0]}; {key[1]}; {key[2]} pool; {key[3]}", fontsize="medium", loc="left")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)
