import pytest
from reporting import CURVE, POINT, POLICIES, PROTOCOL, Page, bill, marked, rate, spying, suspect, theft, twin

from experiments.report import report


@pytest.fixture
def results():
    return {
        "date": "2026-01-31",
        "version": "1.2.3",
        "commit": "abcdef",
        "machine": {"platform": "Linux", "cores": 2, "load_before": [0.5, 0.25, 0.1], "device": "cpu"},
        "versions": {"python": "3.11", "torch": "2.13", "redis": None},
        "seeds": [3],
        "settings": dict(PROTOCOL),
        "meanings": {"budgets": "Budgets of the extraction attacks, in rows."},
        "notes": [],
        "data": {
            "name": "digits",
            "source": "scikit-learn",
            "missed": None,
            "rows": {"victim": 500, "unseen": 120, "pool": 250, "shadow": 250, "control": 500, "evaluation": 120},
        },
        "victim": {"family": "cnn", "accuracy": rate(0.901), "train_accuracy": rate(0.98)},
        "policies": dict(POLICIES),
        "extraction": [
            theft("knockoff", "open", 40, 0.611),
            theft("jbda", "open", 40, 0.522),
            theft("knockoff", "labels", 40, 0.593),
            theft("jbda", "labels", 40, 0.514),
            theft("knockoff", "open", 160, 0.855),
            theft("jbda", "open", 160, 0.656),
            theft("knockoff", "labels", 160, 0.777),
            theft("jbda", "labels", 160, 0.638),
        ],
        "baselines": [
            {"rows": 40, "accuracy": rate(0.585), "agreement": rate(0.595)},
            {"rows": 160, "accuracy": rate(0.815), "agreement": rate(0.825)},
        ],
        "membership": [
            spying("gap", "open", 0.541, POINT),
            spying("shadow", "open", 0.632, CURVE),
            spying("gap", "labels", 0.523, POINT),
            {
                **{
                    name: value
                    for name, value in spying("shadow", "labels", 0.5, CURVE).items()
                    if name in {"attack", "policy", "budget", "settings", "seconds"}
                },
                **bill("shadow-labels", 0, 0),
                "status": "not applicable",
                "reason": "labels only",
            },
        ],
        "alarms": [
            {"account": "jbda-labels-160", "model": "labels", "detector": "prada", "row": 94},
            {"account": "jbda-labels-160", "model": "labels", "detector": "sybils", "row": 71},
        ],
        "ownership": {
            "root": "0123456789abcdef" * 4,
            "tests": {
                "twin-test": [
                    twin("victim", 81.0, "accused"),
                    twin("stolen-open", 6.0, "accused", "knockoff-open-160"),
                    twin("stolen-labels", 1.0, account="jbda-labels-160"),
                    twin("independent-0", -0.3),
                    twin("independent-1", 0.2),
                ],
                "dawn": [marked("stolen-labels", 19, "accused", "jbda-labels-160"), marked("independent-0", 1)],
                "dataset-inference": [
                    suspect("victim", 0.41, "accused"),
                    suspect("stolen-open", 0.32, "accused"),
                    suspect("independent-0", -0.03),
                    suspect("independent-1", 0.04),
                ],
            },
            "false_accusations": {
                "twin-test": {"accused": 0, "suspects": 2, "low": 0.0, "high": 0.8419},
                "dawn": {"accused": 0, "suspects": 1, "low": 0.0, "high": 0.975},
                "dataset-inference": {"accused": 0, "suspects": 2, "low": 0.0, "high": 0.8419},
            },
            "judgement": {
                "suspect": "stolen-open",
                "outcome": "derived",
                "why": "the repeated test passes the committed rule",
                "checked": ["3 models were trained again"],
                "unchecked": ["whether the owner has other logs"],
                "rows": 900,
                "money": 900_0000,
                "z": 5.87,
                "limit": 2.75,
                "page": "proof.html",
            },
            "ledgers": {
                "victims": {"rows": 5555, "requests": 10, "micro_cents": 0},
                "suspects": {"rows": 3702, "requests": 7, "micro_cents": 0},
            },
        },
        "seconds": {"data": 1.25, "extraction": 20.5},
    }


@pytest.fixture
def page(tmp_path):
    return lambda results: Page(report.write(results, tmp_path / "out"))
