"""The report's figures: SVG inside the page, which takes its colour and its fonts from there."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from cli.money import MICRO

Run = Mapping[str, Any]
Dash = str | tuple[int, tuple[float, ...]]

INK = "#000000"  # becomes the page's own
styled = matplotlib.rc_context(
    {
        "axes.linewidth": 0.6,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlelocation": "left",
        "axes.titlesize": 9,
        "axes.titleweight": "bold",
        "font.size": 8,
        "lines.linewidth": 1.4,
        "lines.markersize": 4.5,
        "svg.fonttype": "none",
        "text.parse_math": False,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
    }
)


@dataclass(frozen=True)
class Mark:
    """How one attack is drawn wherever it appears: colour, marker and dashes."""

    colour: str
    marker: str
    dash: Dash


# Colours of Okabe and Ito that stand out from white and from black.
MARKS = (
    Mark("#0072b2", "o", "-"),
    Mark("#d55e00", "s", (0, (5, 2))),
    Mark("#009e73", "^", (0, (4, 1.2, 1, 1.2))),
    Mark("#cc79a7", "v", (0, (1.5, 1))),
    Mark("#e69f00", "P", (0, (7, 2, 1, 2))),
    Mark("#56b4e9", "*", (0, (3, 1.5))),
)
BASELINE = Mark(INK, "x", (0, (1, 2.5)))
REFERENCE = Mark(INK, "", "-")


def marks(names: Iterable[str]) -> dict[str, Mark]:
    """Gives each name a mark."""
    return dict(zip(dict.fromkeys(names), cycle(MARKS), strict=False))


@styled
def key(mark: Mark, place: str, *, line: bool = True, point: bool = True, filled: bool = True) -> Markup:
    """Draws a mark, or only its line or its point, for the legend at a place of the page."""
    figure = Figure(figsize=(0.38, 0.14))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    face = mark.colour if filled else "none"
    if line:
        axes.plot([0, 2], [0, 0], color=mark.colour, linestyle=mark.dash)
    if point:
        axes.plot([1], [0], color=mark.colour, marker=mark.marker, markerfacecolor=face)
    return _svg(figure, f"key {place} {mark}", "")


@styled
def extraction(
    policy: str, runs: Sequence[Run], baselines: Sequence[Run], victim: float, styles: Mapping[str, Mark]
) -> Markup:
    """Draws accuracy and agreement of one policy's surrogates against the rows spent, and the money.

    Args:
        policy: Name of the policy.
        runs: Runs of all policies, which fix the axes that the figures share.
        baselines: Surrogates trained on true labels.
        victim: The victim's own accuracy.
        styles: How each attack is drawn.
    """
    figure = Figure(figsize=(4.4, 4.6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, sharey=True)
    everything = [*runs, *baselines]
    for axes, measure in ((above, "accuracy"), (below, "agreement")):
        for attack, mark in styles.items():
            own = [run for run in runs if (run["policy"], run["attack"]) == (policy, attack)]
            _line(axes, own, measure, mark)
        _line(axes, baselines, measure, BASELINE)
        axes.set_ylabel(f"{measure}, %")
        axes.grid(axis="y", color=INK, alpha=0.15, linewidth=0.5)
    above.axhline(100 * victim, color=INK, linewidth=0.8)
    above.set_title(policy)
    lows = [run[measure][1] for run in everything for measure in ("accuracy", "agreement")]
    below.set_ylim(10 * np.floor(10 * min([*lows, victim]) - 0.1), 101)
    spent = sorted({run["rows"] for run in everything})
    below.set_xscale("log")
    below.set_xlim(spent[0] / 1.4, spent[-1] * 1.4)
    below.xaxis.set_major_locator(FixedLocator(_apart(spent)))
    below.xaxis.set_major_formatter(FuncFormatter(lambda rows, _: f"{rows:,.0f}"))
    below.xaxis.set_minor_locator(NullLocator())
    below.set_xlabel("rows spent (log scale)")
    _add_money(above, below.xaxis.get_majorticklocs(), runs)
    alt = f"Accuracy and agreement of the surrogates against rows spent, policy {policy}; see the table below"
    return _svg(figure, f"extraction {policy}", alt)


def _add_money(axes: Axes, ticks: Iterable[float], runs: Sequence[Run]) -> None:
    """Labels ticks of the rows with their price above the axes, if all rows cost the same."""
    prices = {run["money"] / run["rows"] for run in runs if run["rows"] and run["money"] is not None}
    if len(prices) == 1:
        price = prices.pop() / MICRO
        above = axes.secondary_xaxis("top")
        above.xaxis.set_major_locator(FixedLocator(list(ticks)))
        above.xaxis.set_major_formatter(FuncFormatter(lambda rows, _: f"{rows * price:.4g}"))
        above.xaxis.set_minor_locator(NullLocator())
        above.set_xlabel("money spent, currency units (log scale)")


def _line(axes: Axes, runs: Sequence[Run], measure: str, mark: Mark) -> None:
    """Draws a measure of runs, with its intervals, against their rows."""
    runs = sorted(runs, key=lambda run: int(run["rows"]))
    rate, low, high = 100 * np.array([run[measure] for run in runs]).reshape(-1, 3).T
    axes.errorbar(
        [run["rows"] for run in runs],
        rate,
        yerr=[np.maximum(rate - low, 0), np.maximum(high - rate, 0)],
        color=mark.colour,
        marker=mark.marker,
        linestyle=mark.dash,
        elinewidth=0.8,
    )


def _apart(values: Sequence[int]) -> list[int]:
    """Drops ticks whose labels would touch on a log axis; the last one stays."""
    kept: list[int] = []
    for value in reversed(values):
        if not kept or value * 1.9 < kept[-1]:
            kept.append(value)
    return kept


def one_point(run: Run) -> bool:
    """Returns whether a ROC has only one point between its corners, as that of a score of two values has."""
    return len(run["roc"][0]) <= 3


@styled
def roc(policy: str, runs: Sequence[Run], styles: Mapping[str, Mark]) -> Markup:
    """Draws the ROC of one policy's membership attacks, both axes logarithmic.

    A score of two values is drawn as the one point between the corners.

    Args:
        policy: Name of the policy.
        runs: Runs of all policies that gave scores; they fix the axes that the figures share.
        styles: How each attack is drawn.
    """
    figure = Figure(figsize=(4.4, 3.6), layout="constrained")
    axes = figure.add_subplot()
    low = 1 / max([100, *(run[side] for run in runs for side in ("members", "others"))])
    axes.plot([low, 1], [low, 1], color=INK, linewidth=0.8)
    for run in runs:
        if run["policy"] != policy:
            continue
        mark, (false, true) = styles[run["attack"]], run["roc"]
        if one_point(run):
            (point,) = axes.plot(false[1:-1], true[1:-1], color=mark.colour, marker=mark.marker, linestyle="none")
            point.set(zorder=3, clip_on=False)
        else:
            axes.plot(false, true, color=mark.colour, linestyle=mark.dash, drawstyle="steps-post")
    ticks = [rate for rate in (0.0001, 0.001, 0.01, 0.1, 1.0) if rate >= low]
    axes.set_xscale("log", nonpositive="clip")
    axes.set_yscale("log", nonpositive="clip")
    axes.set(xlim=(low, 1), ylim=(low, 1))
    for axis, name in ((axes.xaxis, "false positive rate"), (axes.yaxis, "true positive rate")):
        axis.set_major_locator(FixedLocator(ticks))
        axis.set_major_formatter(FuncFormatter(lambda rate, _: f"{100 * rate:g} %"))
        axis.set_minor_locator(NullLocator())
        axis.set_label_text(name)
    axes.grid(color=INK, alpha=0.15, linewidth=0.5)
    axes.set_title(policy)
    return _svg(figure, f"roc {policy}", f"ROC of the membership attacks, policy {policy}; see the table below")


KINDS = {
    "victim": Mark(INK, "D", "-"),
    "stolen": Mark("#d55e00", "s", "-"),
    "independent": Mark("#0072b2", "o", "-"),
}
CONTROL = Mark("#009e73", "x", "-")
LIMIT = Mark(INK, "", (0, (3, 2)))
SIDES = {"private": Mark("#009e73", "", "-"), "unseen": Mark("#cc79a7", "", (0, (3, 1)))}


@styled
def effects(suspects: Sequence[Run]) -> Markup:
    """Draws the effect size of each suspect with its 95 % interval; the accused are filled."""
    figure, axes = _rows(suspects)
    axes.axvline(0, color=INK, linewidth=0.8)
    for row, suspect in enumerate(suspects):
        mark = KINDS.get(suspect["kind"], MARKS[2])
        axes.plot(suspect["interval"], [row, row], color=mark.colour)
        face = mark.colour if suspect["verdict"] == "accused" else "none"
        axes.plot([suspect["delta_mu"]], [row], color=mark.colour, marker=mark.marker, markerfacecolor=face)
    axes.set_title("Effect size Δμ, 95 % interval")
    axes.set_xlabel("Δμ")
    return _svg(figure, "effects", "Effect size of each suspect with its 95 % interval; see the table below")


@styled
def scores(suspects: Sequence[Run]) -> Markup:
    """Draws the distribution function of each suspect's scores on private and on unseen images.

    Most scores lie close to either end, where a histogram would show two bars only.
    """
    figure, axes = _rows(suspects)
    for row, suspect in enumerate(suspects):
        axes.axhline(row + 0.4, color=INK, alpha=0.15, linewidth=0.5)
        for side, mark in SIDES.items():
            x = np.sort(suspect[f"{side}_scores"])
            share = np.arange(len(x) + 1) / len(x)
            edges = np.r_[-1, x, 1]
            # The axis points down.
            axes.stairs(row + 0.4 - 0.8 * share, edges, baseline=None, color=mark.colour, linestyle=mark.dash)
    axes.set_xlim(-1.02, 1.02)
    axes.set_xticks((-1, -0.5, 0, 0.5, 1))
    axes.set_title("Scores of the held-out images: share at most x")
    axes.set_xlabel("−1 as if trained on, +1 as if never seen")
    return _svg(figure, "scores", "Distribution of each suspect's scores on private and on unseen images")


@styled
def twins(suspects: Sequence[Run]) -> Markup:
    """Draws z of each suspect; the accused are filled. The judge's line is drawn across all of them."""
    controls = sorted({z for suspect in suspects for z in suspect["independent"].values()})
    rows = [*suspects, {"name": "controls"}] if controls else list(suspects)
    figure, axes = _rows(rows, width=7.4, height=0.24)
    axes.axvline(0, color=INK, linewidth=0.8)
    for row, suspect in enumerate(suspects):
        mark = KINDS.get(suspect["kind"], MARKS[2])
        face = mark.colour if suspect["verdict"] == "accused" else "none"
        axes.axhline(row, color=INK, alpha=0.1, linewidth=0.5)
        axes.plot([suspect["z"]], [row], color=mark.colour, marker=mark.marker, markerfacecolor=face)
        if suspect["limit"] is not None:
            ends = [row - 0.5, row + 0.5]
            axes.plot([suspect["limit"]] * 2, ends, color=LIMIT.colour, linestyle=LIMIT.dash, linewidth=1)
    axes.plot(
        controls, [len(suspects)] * len(controls), color=CONTROL.colour, marker=CONTROL.marker, linestyle="none"
    )
    axes.set_xscale("symlog", linthresh=3)
    axes.xaxis.set_major_locator(FixedLocator([-10, -3, -2, -1, 0, 1, 2, 3, 5, 10, 20, 50, 100, 200]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda z, _: f"{z:g}".replace("-", "−")))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("z: the victim’s similarity, in standard deviations of its twins’ (log scale beyond ±3)")
    return _svg(figure, "twins", "z of each suspect with the judge's line; see the table below")


def _rows(suspects: Sequence[Run], width: float = 4.6, height: float = 0.42) -> tuple[Figure, Axes]:
    """Makes a figure with one row for each suspect, from the top."""
    figure = Figure(figsize=(width, 0.7 + height * len(suspects)), layout="constrained")
    axes = figure.add_subplot()
    axes.spines["left"].set_visible(False)
    axes.set_yticks(range(len(suspects)), [suspect["name"] for suspect in suspects])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(suspects) - 0.4, -0.6)
    return figure, axes


def _svg(figure: Figure, name: str, alt: str) -> Markup:
    """Returns a figure as an element of the page, without anything that could clash with another figure."""
    file = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(file, format="svg", transparent=True, metadata=nothing)
    text = file.getvalue()
    used = set(re.findall(r"#([\w.-]+)", text))
    edits: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
        (r"^.*?<svg[^>]*?( width=\S+ height=\S+ viewBox=\"[^\"]*\")[^>]*>", r"<svg\1>"),  # no namespaces in HTML
        (r"<style.*?</style>", ""),  # it would apply to the whole page
        (r"<metadata>.*?</metadata>", ""),
        (r"<defs>\s*</defs>", ""),
        (r' id="([^"]*)"', lambda found: found[0] if found[1] in used else ""),
        (r"font-family: [^;\"]*;? ?", ""),
        (r' transform="rotate\(-?0 [^"]*"', ""),
        (INK, "currentColor"),
        (r'(?<= )(d|x|y)="[^"]*"', lambda found: re.sub(r"\d+\.\d{3,}", _shorter, found[0])),
        (r"\s*\n\s*", "\n"),
    )
    for pattern, replacement in edits:
        text = re.sub(pattern, replacement, text, flags=re.DOTALL)
    label = f' role="img" aria-label="{escape(alt)}"' if alt else ' aria-hidden="true"'
    return Markup(text.strip().replace("<svg", f"<svg{label}", 1))


def _shorter(number: re.Match[str]) -> str:
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")
