"""Tables of a study of lotteries, in Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import betaincinv

from experiments.studies.lotteries import LEVELS
from experiments.studies.lottery import t_tail
from owner.twin_test import TwinTest
from wire import Array
from zoo.exact_interval import exact_interval

Results = Mapping[str, Any]


def table(results: Results) -> str:
    """Formats the power for each kind of theft, the false accusations, and how well p-values keep their level."""
    lines = [
        "| suspect | accused | exact 95 % interval | first | z, mean (least) | accuracy | agreement |",
        "|---|---|---|---|---|---|---|",
    ]
    for kind in results["settings"]["kinds"]:
        lines.append(_cells(kind, *_power(results, kind)))
    lines += [
        "",
        "| innocent suspects | accused | of | interval by suspects | worst victim |",
        "|---|---|---|---|---|",
    ]
    lines += [_cells(*row) for row in _false(results)]
    return "\n".join([*lines, "", _calibration(results)])


def _power(results: Results, kind: str) -> Iterator[str]:
    found = [
        (one, lines(lottery)[one["victim"]])
        for lottery in results["lotteries"]
        for one in lottery["thefts"]
        if one["kind"] == kind
    ]
    z, first = np.array([one["z"] for one, _ in found]), np.array([one["rank"] == 1 for one, _ in found])
    line = np.array([limit for _, limit in found])
    accused = int((accuses(results, z, first) & (z > line)).sum())
    yield f"{accused} of {len(found)}"
    yield "{1:.0%} to {2:.0%}".format(*exact_interval(accused, len(found)))
    yield str(int(first.sum()))
    yield f"{z.mean():.1f} ({z.min():.1f})"
    for name in ("accuracy", "agreement"):
        yield f"{np.mean([one[name] for one, _ in found]):.1%}"


def lines(lottery: Results, controls: int | None = None) -> Array:
    """Returns the judge's line for each victim, by all of his models or by the first ones."""
    known = np.array(lottery["controls"][:controls]).reshape(-1, len(lottery["accuracy"]))
    return np.array([TwinTest().line(of) for of in known.T])


def accuses(results: Results, z: Array, first: Array) -> Array:
    """Returns which suspects rank and t alone would accuse."""
    return np.asarray(first & (t_tail(z, results["settings"]["models"] - 1) <= TwinTest().alpha))


def false_accusations(results: Results) -> tuple[Array, Array]:
    """Returns which innocent suspects each victim accuses, ``(s, victims)``: by rank and t, and past the line."""
    plain, judged = list[Array](), list[Array]()
    for lottery in results["lotteries"]:
        z = np.array(lottery["z"])
        plain.append(accuses(results, z, np.array(lottery["ranks"]) == 1))
        judged.append(plain[-1] & (z > lines(lottery)))
    return np.concatenate(plain, axis=1), np.concatenate(judged, axis=1)


def _false(results: Results) -> Iterator[Sequence[str]]:
    for name, accused in zip(
        ("rank and t alone", "with the judge's line"), false_accusations(results), strict=True
    ):
        suspects, victims = accused.shape
        low, high = ends(accused.mean() * suspects, suspects)
        worst = int(accused.sum(axis=0).max())
        rate, least, most = exact_interval(worst, suspects)
        yield (
            f"{suspects} models, {victims} victims, {name}",
            f"{int(accused.sum())} ({accused.mean():.2%})",
            str(accused.size),
            f"{low:.2%} to {high:.2%}",
            f"{worst} of {suspects} = {rate:.2%} ({least:.2%} to {most:.2%})",
        )
    of, plain, judged = np.sum([lottery["innocent thefts"] for lottery in results["lotteries"]], axis=0)
    if of:
        yield "thefts of another model, rank and t alone", f"{plain} ({plain / of:.2%})", str(of), "", ""
        yield "thefts of another model, with the judge's line", f"{judged} ({judged / of:.2%})", str(of), "", ""


def ends(hits: float, trials: int) -> tuple[float, float]:
    """Returns the ends of the exact 95 % interval of a rate, as of so many trials; hits need not be whole."""
    low = betaincinv(hits, trials - hits + 1, 0.025) if hits else 0.0
    high = betaincinv(hits + 1, trials - hits, 0.975) if hits < trials else 1.0
    return float(low), float(high)


def _calibration(results: Results) -> str:
    counts = np.sum([lottery["tail"] for lottery in results["lotteries"]], axis=0)
    of = sum(lottery["of"] for lottery in results["lotteries"])
    shares = ", ".join(f"{count / of:.2%} at {level:g}" for count, level in zip(counts, LEVELS, strict=True))
    return (
        f"p of Student's t for innocent suspects, each model the victim in turn: {shares} or less ({of:,} pairs)"
    )


def _cells(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"
