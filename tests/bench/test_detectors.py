import json

from bench import detectors
from bench.__main__ import main


def test_detectors_are_timed_beside_their_rivals(tmp_path, capsys):
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
    assert [figure["features"] for figure in results["prada"]] == [36, 36]
    for figure, least in zip(results["prada"], (60, 150), strict=True):
        assert figure["rows_sent"] > figure["rows_kept"] >= least
        assert not figure["alarmed"]
        assert all(spread["median"] > 0 for spread in figure["microseconds_a_row"].values())
    assert "MISSED" in table or "reached" in table


def test_a_ratio_is_taken_within_a_round():
    assert detectors._ratios([2.0, 9.0, 4.0], [1.0, 3.0, 4.0]) == (2.0, 1.0, 3.0)
    assert "MISSED" in detectors._judged({"median": 1.6, "low": 1.0, "high": 2.0}, False)
