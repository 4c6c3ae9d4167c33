"""Formats figures and targets as text."""

from __future__ import annotations

from typing import Any


def table(results: dict[str, Any]) -> str:
    """Formats results for a person."""
    machine, settings = results["machine"], results["settings"]
    made = ", ".join(f"{family} of {count:,} parameters" for family, count in settings["parameters"].items())
    lines = [
        f"{machine['cpu']}, {machine['cores']} cores, load average {machine['load_before'][0]:.2f} before",
        f"{settings['rounds']} rounds of {settings['seconds']:g} s; {made}",
        "",
        _line("median of rounds", "images/s", "least", "most", "CPU us", "p50 ms", "p99 ms", "errors"),
    ]
    for name, figure in results["figures"].items():
        numbers = [f"{figure['speed'][part]:.0f}" for part in ("median", "low", "high")]
        numbers.append(f"{figure['cpu']['median']:.1f}")
        if figure["p50"]["median"]:
            numbers += [f"{figure[part]['median']:.2f}" for part in ("p50", "p99")]
        lines.append(_line(name, *numbers, *([str(figure["errors"])] if figure["errors"] else [])))
    for name, size in results["memory"].items():
        lines.append(f"{name:<52} {size / 2**20:9.0f} MiB of its own")
    for name, why in results["skipped"].items():
        lines.append(f"skipped: {name}: {why}")
    lines += ["", f"{'target':<82} {'bound':>8} {'ratio':>7} {'least':>7} {'most':>7}"]
    for target in results["targets"]:
        bound = f"{'>=' if target['least'] else '<='} {target['bound']:g}"
        if target["ratio"] is None:
            lines.append(f"{target['what']:<82} {bound:>8} not measured: {target['against']}")
            continue
        ratio = target["ratio"]
        reached = "reached" if target["reached"] else "MISSED"
        lines.append(
            f"{target['what']:<82} {bound:>8} {ratio['median']:7.3g} {ratio['low']:7.3g} {ratio['high']:7.3g}"
            f"  {reached}  ({target['against']})"
        )
    return "\n".join(lines)


def _line(name: str, *columns: str) -> str:
    return f"{name:<52} " + " ".join(f"{column:>9}" for column in columns)
