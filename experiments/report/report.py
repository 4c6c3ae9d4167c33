"""The report: one self-contained page, made of a run's results and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from cli.flags import attribute_notes
from experiments.demo.sizes import Protocol
from experiments.report import charts, published
from experiments.report import formatting as wording
from experiments.report.summary import agreement, auc, costs, differences, summary

Run = Mapping[str, Any]

FORMS: tuple[Callable[..., str], ...] = (
    wording.count,
    wording.ended,
    wording.interval,
    wording.money,
    wording.percent,
    wording.plain,
    wording.pvalue,
    wording.settings,
    wording.signed,
)


def write(results: dict[str, Any], out: Path) -> Path:
    """Writes ``report.html`` to a folder and returns its path.

    Args:
        results: What :meth:`experiments.demo.trial.Trial.run` returns, or what its ``results.json`` holds.
        out: The folder; made if it is not there.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {form.__name__: form for form in FORMS}
    template = environment.from_string((files("bench") / "report.html").read_text(encoding="utf-8"))
    out.mkdir(parents=True, exist_ok=True)
    path = out / "report.html"
    path.write_text(template.render(_content(results)), encoding="utf-8")
    return path


def _content(results: Run) -> dict[str, Any]:
    """Returns what the template is filled with."""
    extraction, membership = _sorted(results, "extraction"), _sorted(results, "membership")
    billed = [*extraction, *membership]
    told = [run for run in membership if "auc" in run]
    curves = [run for run in told if not charts.one_point(run)]
    suspects = results["ownership"]["suspects"]
    stealing, spying = (charts.marks(run["attack"] for run in runs) for runs in (extraction, membership))
    return {
        **results,
        "summary": summary(results),
        "extraction": extraction,
        "membership": membership,
        "told": told,
        "points": {run["attack"] for run in told if charts.one_point(run)},
        "billed": billed,
        "copies": [max(_by(extraction, attack), key=agreement) for attack in stealing],
        "spies": [max(_by(told, attack), key=auc) for attack in spying if _by(told, attack)],
        "tied": [(run, rate) for run in curves if (rate := min(filter(None, run["roc"][0]))) > 0.01],
        "mismatches": [(run["account"], found) for run in billed if (found := differences(run))],
        "cautions": list(dict.fromkeys(suspect["caution"] for suspect in suspects)),
        "costs": costs(results),
        "methods": _methods([*billed, *({**suspect, "attack": suspect["method"]} for suspect in suspects)]),
        "meanings": attribute_notes(Protocol),
        "charts": charts,
        "published": published,
        "differences": differences,
        "stealing": stealing,
        "spying": spying,
    }


def _sorted(results: Run, kind: str) -> list[Run]:
    """Returns runs by policy, attack and budget; policies and attacks in the order in which they were given."""
    attacks = list(dict.fromkeys(run["attack"] for run in results[kind]))
    policies = list(results["policies"])
    return sorted(
        results[kind],
        key=lambda run: (policies.index(run["policy"]), attacks.index(run["attack"]), run["budget"]),
    )


def _by(runs: Iterable[Run], attack: str) -> list[Run]:
    return [run for run in runs if run["attack"] == attack]


def _methods(runs: Iterable[Run]) -> list[tuple[str, str]]:
    """Returns each method's settings, once where all its runs have the same."""
    return list(dict.fromkeys((run["attack"], wording.settings(run["settings"])) for run in runs))
