import json
from functools import partial

import pytest

from benchmarks import detectors
from benchmarks.__main__ import main
from benchmarks.forwards import Forwards
from benchmarks.measure import ratios


def test_detectors_are_timed_beside_their_rivals(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(detectors, "Forwards", partial(Forwards, engine="torch"))  # an export takes seconds
    path = tmp_path / "detectors.json"
    flags = [
        "detectors",
        "--features",
        "36",
        "--history",
        "60",
        "150",
        "--classes",
        "3",
        "--rounds",
        "2",
        "--json",
        str(path),
    ]
    main(flags)
    table = capsys.readouterr().out
    results = json.loads(path.read_text())
    cases = [(f["kind"], f["features"], f["rows"]) for f in results["prada"]]
    assert cases == [(kind, 36, rows) for kind in ("pixels", "floats") for _ in (60, 150) for rows in (1, 64)]
    for figure, least in zip(results["prada"], (60, 60, 150, 150) * 2, strict=True):
        assert figure["rows_sent"] > figure["rows_kept"] >= least
        assert not figure["alarmed"] and figure["bytes_over_rows"] > 1
        assert all(spread["median"] > 0 for spread in figure["microseconds_a_row"].values())
    assert [(f["layer"], f["rows"]) for f in results["layers"]] == [
        (layer, rows) for rows in (1, 64) for layer in ("dawn", "hoda", "ood")
    ]
    forwards = {(f["layer"], f["rows"]): f["forwards"]["median"] for f in results["layers"]}
    assert forwards["hoda", 64] > 3 * forwards["ood", 64] > 1 and min(forwards.values()) > 0
    assert len(table.splitlines()) == 3 + 8 + 2 + 6
    assert "MISSED" in table or "reached" in table


def test_a_ratio_is_taken_within_a_round():
    assert ratios([2.0, 9.0, 4.0], [1.0, 3.0, 4.0]) == (2.0, 1.0, 3.0)


@pytest.mark.parametrize(("reached", "verdict"), [(True, " reached"), (False, " MISSED"), (None, "")])
def test_a_target_is_judged_by_the_median(reached, verdict):
    judged = detectors._judged({"median": 1.6, "low": 1.0, "high": 2.0}, reached)
    assert judged == f"1.6 (1-2){verdict}"
