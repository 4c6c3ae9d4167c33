"""The study of changed answers: its settings, its table, and a run at tiny sizes."""

import tomllib
from pathlib import Path

import pytest

from attacker import Informed
from experiments.studies.answer_defences import LAYERS, THIEVES, AnswerDefences, table
from server.layer_tables import defense_of
from wire import BadInput


def test_every_defence_and_every_thief_can_be_made():
    for text, expects, strength in LAYERS.values():
        if text:
            defense_of(tomllib.loads(f"layer = {text}")["layer"])
        for thief in THIEVES.values():
            Informed(**thief(expects, strength))
    with pytest.raises(BadInput):
        AnswerDefences(seeds=1)


@pytest.mark.slow
def test_a_tiny_run(tmp_path: Path):
    study = AnswerDefences("digits", rows=60, epochs=1, test=60, seeds=2)
    results = study.run(None, tmp_path / "cache", None)
    rows = {row["defence"]: row for row in results["defences"]}
    assert set(rows) == set(LAYERS)
    assert rows["none"]["l1"]["mean"] < 1e-5 and 0 < rows["ModelGuard-W"]["l1"]["mean"] <= 1 + 1e-5
    assert rows["deceive, from an alarm in row 102 on"]["l1"]["mean"] < 1e-5  # 60 rows raise no alarm
    for kept in ("MAD, label kept", "ModelGuard-W", "ModelGuard-S"):
        assert rows[kept]["accuracy"]["mean"] == rows["none"]["accuracy"]["mean"]
    assert "| MAD | " in table(results) and "without the API" in table(results)
    assert all(0.1 < value < 0.9 for value in results["null"])
