"""Formats of numbers and settings in the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cli.money import MICRO


def count(number: int) -> str:
    """Writes 4000 as 4,000."""
    return f"{number:,}"


def interval(rate: Sequence[float], digits: int = 1) -> str:
    """Writes a rate and the ends of its interval in per cent, without the sign."""
    value, low, high = (f"{100 * part:.{digits}f}" for part in rate)
    return f"{value} ({low}–{high})"


def money(micro_cents: int | None) -> str:
    """Writes micro-cents in units of the currency."""
    return "not known" if micro_cents is None else f"{micro_cents / MICRO:,.4f}"


def percent(share: float, digits: int = 1) -> str:
    """Writes a share in per cent."""
    return f"{100 * share:.{digits}f} %"


def pvalue(p: float) -> str:
    """Writes a p-value with three decimals, or a small one with its power of ten."""
    return f"{p:.1e}" if p < 0.001 else f"{p:.3f}"


def settings(values: Mapping[str, Any]) -> str:
    """Writes hyper-parameters in one line, without those that are None."""
    return "; ".join(f"{name} {plain(value)}" for name, value in values.items() if value is not None)


def signed(number: float, digits: int = 3) -> str:
    """Writes a number with a true minus sign."""
    return f"{number:.{digits}f}".replace("-", "−")


def plain(value: Any) -> str:
    """Writes a setting: numbers as they are, sequences with commas, tables with semicolons."""
    if isinstance(value, Mapping):
        return "; ".join(f"{name}: {plain(inner)}" for name, inner in value.items())
    return ", ".join(map(plain, value)) if isinstance(value, list | tuple) else str(value)


def ended(run: Mapping[str, Any]) -> str:
    """Writes how a run ended."""
    return f"{run['status']}: {run['reason']}" if run["reason"] else str(run["status"])
