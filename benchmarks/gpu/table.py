"""Formats the figures of the check as Markdown: ``python -m benchmarks.gpu.table FILE``."""

from __future__ import annotations

import json
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

Entry = dict[str, Any]


def main() -> None:
    """Prints the tables of a file of figures."""
    sys.stdout.write(table(json.loads(Path(sys.argv[1]).read_text())) + "\n")


def table(results: dict[str, Any]) -> str:
    """Formats results: what is served, raw passes, and several workers; a range is that of the rounds."""
    return "\n".join([_setting(results), *_served(results), *_raw(results), *_workers(results)])


def _setting(results: dict[str, Any]) -> str:
    cards = ", ".join(f"{gpu['name']} (driver {gpu['driver_version']})" for gpu in results["gpu"])
    cut = [name for name, phase in results.get("phases", {}).items() if phase["status"]]
    return (
        f"{results['date']}: {cards or 'no GPU'}, {results['machine']['cores']} CPU cores, "
        f"torch {results['versions']['torch']}, measurements of {results['settings']['seconds']:g} s"
        + (f"; ended before its time: {', '.join(cut)}" if cut else "")
    )


def _served(results: dict[str, Any]) -> Iterator[str]:
    loads = _grouped(results.get("served", ()), "model", "defended", "rows", "connections")
    yield from _head(
        "model", "defences", "load", "rows/s", "of raw", "p50 ms", "p99 ms", "CPU us a row", "GPU busy %"
    )
    for (model, defended, rows, connections), entries in loads.items():
        yield _row(
            model,
            "all" if defended else "none",
            f"{rows} x {connections}",
            _range(entries, "rows_per_second", _whole),
            _range(entries, "part_of_best_raw", "{:.2f}".format),
            _range(entries, "p50", "{:.1f}".format),
            _range(entries, "p99", "{:.1f}".format),
            _range(entries, "server_cpu_microseconds_a_row", "{:.1f}".format),
            _range(entries, "gpu_busy_percent", _whole),
        )


def _raw(results: dict[str, Any]) -> Iterator[str]:
    raw = [entry for entry in results.get("forwards", ()) if entry.get("input") == "device"]
    sizes = sorted({entry["rows"] for entry in raw})
    yield from _head("ms a pass of rows", "precision", "way", "channels", *(str(size) for size in sizes))
    ways = _grouped(raw, "model", "precision", "way", "channels_last")
    for (model, precision, way, last), entries in ways.items():
        took = {entry["rows"]: f"{entry['milliseconds']:.3g}" for entry in entries}
        yield _row(model, precision, way, "last" if last else "first", *(took.get(size, "") for size in sizes))


def _workers(results: dict[str, Any]) -> Iterator[str]:
    loaded = [entry for entry in results.get("workers", ()) if "model" in entry]
    yield from _head("model", "load", "workers", "rows/s", "p50 ms", "p99 ms", "GPU busy %")
    for (model, rows, connections, count), entries in _grouped(
        loaded, "model", "rows", "connections", "workers"
    ).items():
        yield _row(
            model,
            f"{rows} x {connections}",
            str(count),
            _range(entries, "rows_per_second", _whole),
            _range(entries, "p50", "{:.1f}".format),
            _range(entries, "p99", "{:.1f}".format),
            _range(entries, "gpu_busy_percent", _whole),
        )


def _grouped(entries: Sequence[Entry], *keys: str) -> dict[tuple[Any, ...], list[Entry]]:
    groups = defaultdict[tuple[Any, ...], list[Entry]](list)
    for entry in entries:
        groups[tuple(entry[key] for key in keys)].append(entry)
    return groups


def _range(entries: Sequence[Entry], key: str, form: Callable[[float], str]) -> str:
    """Formats the median of a figure, with its least and its greatest value where there are several."""
    values = [entry[key] for entry in entries if entry[key] is not None]
    if not values:
        return ""
    median = form(statistics.median(values))
    return median if len(values) == 1 else f"{median} ({form(min(values))} to {form(max(values))})"


def _whole(value: float) -> str:
    return f"{value:,.0f}"


def _head(*names: str) -> Iterator[str]:
    yield from ("", _row(*names), _row(*("---" for _ in names)))


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
