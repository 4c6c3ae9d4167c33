"""The table of all thefts: what is counted, how it is joined, and a run at tiny sizes."""

from pathlib import Path

import pytest

from attacker import EXTRACTION
from experiments import metrics
from experiments.studies.extraction import ANSWERS, NULL, UNASKED, Thefts, summarised, table
from experiments.studies.extraction_plot import plot
from wire import BadInput


def theft(seed, agreement, **more):
    told = {"agreement": agreement, "constant": 0.2, "asked": 90 + seed, "requests": 2, "money": 100}
    if agreement is None:
        told = {"agreement": None, "why": "labels only"}
    key = {"method": "knockoff", "victim": "images", "pool": "own", "architecture": "mlp", "answer": "labels"}
    return {**key, "rows": 100, "seed": seed, **told, **more}


def test_an_interval_over_seeds_is_student_s():
    assert metrics.over_seeds([0.5, 0.7]) == pytest.approx((0.6, 0.0, 1.0))  # 0.6 -+ 12.7 * 0.1
    assert metrics.over_seeds([0.6, 0.62, 0.64, 0.58, 0.61]) == pytest.approx((0.61, 0.5822, 0.6378), abs=1e-4)
    with pytest.raises(BadInput, match="at least 2"):
        metrics.over_seeds([0.6])


def test_seeds_are_joined_and_what_does_not_apply_says_why():
    rows = summarised(
        [theft(0, 0.8), theft(1, 0.9), theft(0, None, answer="top-1"), theft(1, None, answer="top-1")]
    )
    assert rows[0]["agreement"][0] == pytest.approx(0.85) and rows[0]["asked"] == 90.5
    assert "agreement" not in rows[1] and rows[1]["why"] == "labels only"
    text = table({"thefts": rows, "missing": ["line-search"]})
    assert "85.0 ± " in text and "–" in text and text.endswith("Not in this table: line-search.")


def test_every_way_is_of_a_registered_method():
    names = {way.method for way in Thefts().ways()}
    assert names - {NULL, *UNASKED.values()} <= set(EXTRACTION)
    with pytest.raises(BadInput, match="knockoff"):
        Thefts(methods=("nothing",))
    with pytest.raises(BadInput, match="full vector"):
        Thefts(answers=("nothing",))


@pytest.mark.slow
def test_a_tiny_run(tmp_path: Path):
    methods, answers = ("knockoff", "lowd-meek", "equation-solving"), ("full vector", "labels")
    study = Thefts(
        "digits", "digits", other_family="softmax", rows=(50, 60), seeds=2, methods=methods, answers=answers
    )
    written = []
    results = study.run(None, tmp_path / "cache", None, written.append)
    assert len(written) == 10 and results["missing"]
    pools = {row["pool"] for row in results["thefts"] if row["method"] == "knockoff"}
    assert pools == {"own", "foreign", "random"}
    rows = {(row["method"], row["answer"], row["rows"]): row for row in results["thefts"]}
    assert {answer for _, answer, _ in rows} == set(answers) <= set(ANSWERS)
    assert rows["equation-solving", "full vector", 60]["asked"] <= 60
    assert rows["equation-solving", "labels", 60]["why"] == "labels only"
    price = 60 * 10_000 + 100_000
    assert rows["equation-solving", "full vector", 60]["money"] == price
    plot(results, tmp_path / "figure.svg")
    assert "lowd-meek" in (tmp_path / "figure.svg").read_text()
