"""The benchmark of attacks: what is joined, what is printed, and what is refused."""

import sys
from pathlib import Path

import pytest

from benchmarks import attacks
from benchmarks.serving import environments
from wire import BadInput


def test_a_run_of_art_that_fails_is_repeated_with_another_seed(tmp_path, monkeypatch):
    script = tmp_path / "fails.py"
    script.write_text(
        "import json, sys\nif int(sys.argv[6]) < 2007: sys.exit(1)\n"
        "json.dump({'seconds': 1.5, 'labels': sys.argv[3:6]}, open(sys.argv[2], 'w'))\n"
    )
    monkeypatch.setattr(attacks, "SCRIPT", script)
    found = attacks.rival(Path(sys.executable), tmp_path / "rows.npz", "adaptive", 50, 2, 7)
    assert found == {"seconds": 1.5, "labels": ["adaptive", "50", "2"]}
    with pytest.raises(BadInput, match="failed with five seeds"):
        attacks.rival(Path(sys.executable), tmp_path / "rows.npz", "adaptive", 50, 2, -9000)


def test_ratios_are_those_of_the_same_seed():
    found = {
        "ART, random, 10 epochs": [{"seconds": 4.0, "agreement": 0.9}, {"seconds": 8.0, "agreement": 0.8}],
        "ours, random, 10 epochs": [{"seconds": 2.0, "agreement": 0.9}, {"seconds": 2.0, "agreement": 0.9}],
    }
    runs = {name: attacks.joined(each, found) for name, each in found.items()}
    assert runs["ours, random, 10 epochs"]["of ART, random, 10 epochs"] == (0.375, 0.25, 0.5)
    assert "of ART, random, 10 epochs" not in runs["ART, random, 10 epochs"]
    text = attacks.table({"settings": {"epochs": 10}, "runs": runs})
    assert "| ours, random, 10 epochs | 90.0 (90.0 to 90.0) | 2.0 | 0.38 (0.25 to 0.50) |" in text


def test_without_the_toolbox_it_says_how_to_install_it(tmp_path: Path):
    with pytest.raises(BadInput, match="--install"):
        attacks.Attacks().run(tmp_path, None)
    home = tmp_path / "rivals" / "art"
    home.mkdir(parents=True)
    (home / "installed.txt").write_text(attacks.wanted())
    assert environments.python_of("art", attacks.wanted(), tmp_path) == home / "bin" / "python"
    assert environments.python_of("art", "another", tmp_path) is None
    with pytest.raises(BadInput, match="at least 1"):
        attacks.Attacks(rows=0)
