"""Formats figures and targets as text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_BUSY = 0.8  # of a core: from here on the client may be what is measured


def table(results: dict[str, Any]) -> str:
    """Formats results for a person."""
    machine, settings = results["machine"], results["settings"]
    processor = machine["processor"]
    kind = ", ".join(f"{name} {processor[name]}" for name in ("family", "model", "stepping") if name in processor)
    lines = [
        f"{machine['cpu']} ({kind}; {' '.join(processor.get('flags', ())) or 'no wide instructions'}), "
        f"{machine['cores']} cores, load average {machine['load_before'][0]:.2f} before and "
        f"{machine['load_after'][0]:.2f} after, {100 * machine['steal']:.1f} % stolen",
        f"{settings['rounds']} rounds of {settings['seconds']:g} s; client and servers share the cores",
    ]
    for name, part in results["parts"].items():
        lines += ["", f"{name} ({part['minutes']:.1f} min): {part['setting']}", *_part(part)]
    return "\n".join(lines)


def _part(part: dict[str, Any]) -> Iterator[str]:
    yield _line("median of rounds", "rows/s", "least", "most", "CPU us", "p50 ms", "p99 ms", "")
    for name, figure in part["figures"].items():
        numbers = [f"{figure['speed'][value]:.0f}" for value in ("median", "low", "high")]
        numbers.append(f"{_median(figure, 'cpu'):.1f}")
        if _median(figure, "p50"):
            numbers += [f"{_median(figure, entry):.2f}" for entry in ("p50", "p99")]
        yield _line(name, *numbers, *_remarks(figure))
    quiet = {
        who: max((figure[who]["high"] for figure in part["figures"].values() if who in figure), default=0.0)
        for who in ("others", "steal")
    }
    yield f"beside: at most {quiet['others']:.2f} cores for everything else, {quiet['steal']:.2f} stolen"
    for name, size in part["memory"].items():
        yield f"{name:<58} {size / 2**20:9.0f} MiB of its own"
    for name, why in part["skipped"].items():
        yield f"skipped: {name}: {why}"
    if part["targets"]:
        yield f"{'target':<82} {'bound':>8} {'ratio':>7} {'least':>7} {'most':>7}"
    for target in part["targets"]:
        bound = f"{'>=' if target['least'] else '<='} {target['bound']:g}"
        if (ratio := target["ratio"]) is None:
            yield f"{target['what']:<82} {bound:>8} not measured: {target['against']}"
            continue
        reached = "reached" if target["reached"] else "MISSED"
        yield (
            f"{target['what']:<82} {bound:>8} {ratio['median']:7.3g} {ratio['low']:7.3g} {ratio['high']:7.3g}"
            f"  {reached}  ({target['against']})"
        )


def _remarks(figure: dict[str, Any]) -> Iterator[str]:
    """Yields what the reader of a figure should know."""
    if errors := sum(figure["errors"]["rounds"]):
        yield f"{errors} errors"
    if _median(figure, "waiting"):
        yield f"{_median(figure, 'waiting'):.0f} still waiting"
    if (client := _median(figure, "client")) >= _BUSY:
        yield f"the client takes {client:.2f} of a core"


def _median(figure: dict[str, Any], entry: str) -> float:
    return float(figure.get(entry, {"median": 0.0})["median"])


def _line(name: str, *columns: str) -> str:
    return f"{name:<58} " + " ".join(f"{column:>9}" for column in columns)
