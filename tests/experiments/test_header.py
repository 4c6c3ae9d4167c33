import json
import os
import re

from experiments.header import header
from wire.version import VERSION


def test_a_header_says_when_by_which_version_and_where():
    made = header({"rows": (1, 2)}, seeds=range(2))
    assert json.loads(json.dumps(made)) == {**made, "settings": {"rows": [1, 2]}}
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", made["date"]) and made["version"] == VERSION
    assert made["commit"] is None or re.fullmatch(r"[0-9a-f]{12,40}(-dirty)?", made["commit"])
    assert made["machine"]["cpu"] and 1 <= made["machine"]["cores"] <= os.cpu_count()
    assert len(made["machine"]["load_before"]) == 3
    assert made["versions"]["python"].startswith("3.") and made["versions"]["torch"]
    assert (made["seeds"], made["settings"]) == ([0, 1], {"rows": (1, 2)})


def test_a_commit_is_given_only_in_the_repository_of_this_package(monkeypatch, tmp_path):
    monkeypatch.setattr("experiments.header.__file__", str(tmp_path / "experiments" / "header.py"))
    assert header({})["commit"] is None
