"""C6 and C7, small, on digits."""

import pytest

from experiments.claims.command import reproduce, table
from experiments.claims.dataset_inference import C6, C7, CONTROL
from zoo.training import Training

SMALL = {"data": "digits", "rows": 128, "training": Training(epochs=20, batch=32), "models": 4, "images": 20}
CLAIMS = {
    "C6": C6(**SMALL, white_images=6, kinds=("labels",)),
    "C7": C7(**SMALL, independents=2),
}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    base = tmp_path_factory.mktemp("c6")
    return reproduce(CLAIMS, out=base / "out", cache=base / "cache", data=None, seeds=range(1))


@pytest.mark.slow
def test_each_suspect_has_both_kinds_of_rows_and_the_twin_test_beneath(results):
    rows = results["claims"]["C6"]["rows"]
    suspects = list(dict.fromkeys(row["setting"] for row in rows))
    assert suspects == [f"suspect: {name}" for name in ("itself", "labels", CONTROL, "independent 0")]
    for suspect in suspects:
        what = [row["what"] for row in rows if row["setting"] == suspect]
        assert len(what) == 2 * 2 * 3 + 1 and what[-1] == "twin test, p of t"
        assert sum("one image a row" in reading for reading in what) == 6
    by = {(row["setting"], row["what"]): row for row in rows}
    harmonic = "Blind Walk, as published: p, harmonic mean of 100 draws of 10"
    assert by[f"suspect: {CONTROL}", harmonic]["published"] == "0.675"
    assert by["suspect: itself", "twin test, p of t"]["high"] < 0.01
    assert all(0 <= row["low"] <= row["measured"] <= row["high"] <= 1 for row in rows)
    assert "MinGD" in table(results)


@pytest.mark.slow
def test_independent_models_are_counted_for_each_reading(results):
    rows = results["claims"]["C7"]["rows"]
    counted = [row for row in rows if row["baseline"] == "1 % by the level"]
    assert len(counted) == 2 * 3 + 1
    assert all(row["spread"].endswith("of 2") for row in counted)
    assert {name.partition("-")[0] for name in results["claims"]["C7"]["victims"]} == {
        "itself",
        "labels",
        "adversarial",
    }
    effects = results["claims"]["C7"]["more"]["effects"]
    assert set(effects["independent 1"]) == {"0"} and "adversarial" in effects
