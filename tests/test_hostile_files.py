"""Damaged files of every kind end in success or in one line that says what is wrong, within a bounded memory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hostile_files import BOMBS
from tests.hostile_loaders import LOADERS

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """What came of each case, as printed by the process whose memory is bounded."""
    ran = subprocess.run(
        [sys.executable, "-m", "tests.hostile_files", str(tmp_path_factory.mktemp("hostile"))],
        cwd=ROOT,
        env=os.environ | {"TQDM_DISABLE": "1"},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    return [json.loads(line) for line in ran.stdout.splitlines()]


def test_bombs_are_refused_for_what_they_are(outcomes):
    found = {line["case"]: line for line in outcomes if line["kind"] == "bomb"}
    assert found.keys() == BOMBS.keys()
    assert [line for line in found.values() if line["outcome"] != "refused"] == []


def test_damaged_files_load_or_are_refused_in_one_line(outcomes):
    counts = {line["kind"]: line["counts"] for line in outcomes if "counts" in line}
    assert counts.keys() == LOADERS.keys()
    assert [line for line in outcomes if line["kind"] != "bomb" and "counts" not in line] == []
    assert sum(count.get("refused", 0) for count in counts.values()) > len(counts)  # the damage does reach them
