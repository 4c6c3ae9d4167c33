"""The report: one self-contained page, made of a demo's results and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from experiments.report import charts, formatting, published
from experiments.report.summary import agreement, auc, costs, differences, not_applicable, summary
from experiments.report.verdicts import false_accusations, tests_of, verdicts
from wire import BadInput

Run = Mapping[str, Any]

FORMATS = ("count", "ended", "interval", "money", "percent", "plain", "pvalue", "settings", "signed")
PARTS = (
    *("date", "version", "commit", "machine", "versions", "seeds", "settings", "meanings", "notes"),
    *("data", "victim", "policies", "extraction", "baselines", "membership", "ownership", "seconds"),
)


def read(path: Path) -> dict[str, Any]:
    """Reads the results of a demo.

    Raises:
        BadInput: The file cannot be read, or does not hold the results of a demo.
    """
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: {error}; expected the results.json of a demo") from None
    missing = [part for part in PARTS if part not in results] if isinstance(results, dict) else list(PARTS)
    if missing:
        raise BadInput(f"{path}: there is no {missing[0]!r} in it; expected the results.json of a demo")
    return dict(results)


def write(results: Mapping[str, Any], out: Path) -> Path:
    """Writes ``report.html`` to a folder and returns its path.

    Args:
        results: The results of a demo: what its ``results.json`` holds.
        out: The folder; made if it is not there.
    """
    environment = Environment(
        loader=PackageLoader("experiments.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {name: getattr(formatting, name) for name in FORMATS}
    template = environment.get_template("report.html")
    out.mkdir(parents=True, exist_ok=True)
    path = out / "report.html"
    path.write_text(template.render(_content(results)), encoding="utf-8")
    return path


def _content(results: Run) -> dict[str, Any]:
    """Returns the template's variables."""
    extraction, membership = _sorted(results, "extraction"), _sorted(results, "membership")
    membership = [{"precision": None, "recall": None, **run} for run in membership]
    billed = [*extraction, *membership]
    applied = [run for run in extraction if not not_applicable(run)]
    scored = [run for run in membership if not not_applicable(run)]
    curves = [run for run in scored if not charts.one_point(run)]
    evidence = tests_of(results)
    walked, judged = evidence["dataset-inference"], verdicts(results)
    tested = [{**suspect, "attack": suspect["method"]} for suspects in evidence.values() for suspect in suspects]
    stealing, spying = (charts.marks(run["attack"] for run in runs) for runs in (extraction, membership))
    return {
        "null": {},
        **results,
        "protocol": results["settings"],
        "summary": summary(results),
        "extraction": extraction,
        "membership": membership,
        "applied": applied,
        "scored": scored,
        "points": {run["attack"] for run in scored if charts.one_point(run)},
        "billed": billed,
        "copies": [max(_by(applied, attack), key=agreement) for attack in stealing if _by(applied, attack)],
        "spies": [max(_by(scored, attack), key=auc) for attack in spying if _by(scored, attack)],
        "tied": [(run, rate) for run in curves if (rate := min(filter(None, run["roc"][0]))) > 0.01],
        "mismatches": [(run["account"], found) for run in billed if (found := differences(run))],
        "evidence": evidence,
        "walked": walked,
        "verdicts": judged,
        "shown": [test for test in evidence if any(test in verdict.evidence for verdict in judged)],
        "false_accusations": false_accusations(results),
        "thefts": {run["account"]: run for run in extraction},
        "cautions": list(dict.fromkeys(suspect["caution"] for suspect in walked)),
        "costs": costs(results),
        "methods": _methods([*billed, *tested]),
        "charts": charts,
        "published": published,
        "differences": differences,
        "stealing": stealing,
        "spying": spying,
    }


def _sorted(results: Run, kind: str) -> list[Run]:
    """Returns runs by policy, attack and budget; policies and attacks in the order of the results."""
    attacks = list(dict.fromkeys(run["attack"] for run in results[kind]))
    policies = list(results["policies"])
    return sorted(
        results[kind],
        key=lambda run: (policies.index(run["policy"]), attacks.index(run["attack"]), run["budget"]),
    )


def _by(runs: Iterable[Run], attack: str) -> list[Run]:
    return [run for run in runs if run["attack"] == attack]


def _methods(runs: Iterable[Run]) -> list[tuple[str, str]]:
    """Returns each method's settings, once where all its runs share them."""
    return list(dict.fromkeys((run["attack"], formatting.settings(run["settings"])) for run in runs))
