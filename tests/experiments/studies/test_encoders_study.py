"""The study of encoders: its metrics, its table, and a run at tiny sizes."""

from pathlib import Path

import numpy as np
import pytest

from experiments import metrics
from experiments.__main__ import parser
from experiments.studies.encoders import Encoders, table
from wire import BadInput


def test_cosines_are_those_of_rows():
    one = np.float32([[1, 0], [0, 2], [0, 0]])
    assert metrics.cosine(one, np.float32([[3, 0], [2, 0], [1, 1]])) == pytest.approx(1 / 3)
    rng = np.random.default_rng(0)
    e, others = rng.normal(size=(200, 6)), rng.normal(size=(200, 6))
    moved = e @ rng.normal(size=(6, 6)) + 3
    assert metrics.cosine(moved[100:], e[100:]) < 0.5
    assert metrics.cosine(metrics.linearly_mapped(moved[:100], e[:100], moved[100:]), e[100:]) > 0.999
    assert abs(metrics.cosine(metrics.linearly_mapped(others[:100], e[:100], others[100:]), e[100:])) < 0.2


def test_a_probe_learns_what_is_linear_alone():
    x = np.random.default_rng(0).normal(size=(600, 2))
    assert metrics.probed(x[:300], x[:300, 0] > 0, x[300:], x[300:, 0] > 0) > 0.97
    crossed = x[:, 0] * x[:, 1] > 0
    assert metrics.probed(x[:300], crossed[:300], x[300:], crossed[300:]) < 0.65


def test_the_table_has_a_line_for_each_encoder():
    found = [
        {
            "seed": seed,
            "what": "bare, mse",
            "rows": 1000,
            "coverage": 0.25,
            "cosine": 0.5 + seed / 10,
            "probe": 0.75,
        }
        for seed in (0, 1)
    ]
    lines = table({"found": [*found, {"seed": 0, "what": "pixels", "probe": 0.8}]}).splitlines()
    assert lines[2:] == [
        "| bare, mse | 1000 | 25.0 (25.0 to 25.0) | 55.0 (50.0 to 60.0) |  | 75.0 (75.0 to 75.0) |",
        "| pixels |  |  |  |  | 80.0 |",
    ]
    assert parser().parse_args(["encoders", "--bits", "6"]).bits == 6
    with pytest.raises(BadInput, match="at least 2"):
        Encoders(accounts=(1,))


@pytest.mark.slow
def test_a_tiny_run(tmp_path: Path):
    study = Encoders("digits", rows=(60, 120), bits=4, beta=0.3, epochs=2, probe=120, accounts=(2,), task=20)
    results = study.run([0], None, tmp_path / "cache")
    rows = {record["what"]: record for record in results["found"]}
    assert rows["the victim itself"]["cosine"] == pytest.approx(1)
    assert rows["B4B, mse, 2 accounts, mapped"]["asked"] == 132
    told = rows["bare, a customer of 2 classes"]["probe"]
    assert told > 0.8 and rows["B4B, a customer of 10 classes"]["probe"] < told
    assert rows["bare, mse"]["cosine"] > rows["B4B, mse"]["cosine"]
    assert 0 < rows["B4B, mse"]["coverage"] <= 1
