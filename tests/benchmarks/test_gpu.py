"""The check of a GPU, as far as it goes without one: what its phases measure, and how they are ended."""

import json
import sys

import numpy as np
import pytest
import torch

from benchmarks.__main__ import GPU_PHASES, main
from benchmarks.gpu import check, forwards
from benchmarks.gpu.check import PHASES, Check
from benchmarks.gpu.models import MODELS, Model
from benchmarks.gpu.served import loaded, serve
from benchmarks.gpu.table import table
from experiments.parties import Parties
from wire import BadInput
from zoo.families.cnn import Cnn

SMALL = Model(Cnn(4, 16), (1, 8, 8), dtype="UINT8")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_in_one_line():
    with pytest.raises(BadInput, match=r"^this machine has no GPU with CUDA, or torch is built without it$"):
        main(["gpu"])


def test_all_phases_are_ended_within_nine_minutes():
    assert tuple(PHASES) == GPU_PHASES
    assert sum(PHASES.values()) <= 540


def test_rows_are_those_of_the_wire():
    assert SMALL.rows(3).dtype == np.uint8 and SMALL.rows(3).shape == (3, 1, 8, 8)
    floats = MODELS["cnn"].rows(3)
    assert floats.dtype == np.float32 and 0 <= floats.min() < floats.max() <= 1


def figures_of(capsys):
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_raw_passes_and_the_engine_are_measured_and_compared_with_the_cpu(monkeypatch, capsys):
    monkeypatch.setattr(forwards, "SIZES", (16, 32))
    monkeypatch.setattr(forwards, "CHECKED", 32)
    monkeypatch.setattr(forwards, "PRECISIONS", ("float32", "bfloat16"))
    forwards.engine("small", SMALL, 0.01, "cpu", (16, 32))
    told = figures_of(capsys)
    assert [entry.get("rows") for entry in told] == 2 * [None, 16, 32]
    assert [entry["off"] < 1e-6 for entry in told if "off" in entry] == [True, False]
    forwards.measure("small", SMALL, 0.01, [forwards.Way(), forwards.Way(run="graph")], (1, 16), "cpu")
    *told, failed = figures_of(capsys)
    assert [(entry["rows"], entry["input"]) for entry in told] == [(rows, "device") for rows in (1, 16)]
    assert all(entry["rows_per_second"] > 0 for entry in told)
    assert failed["way"] == "graph" and "failed" in failed  # there is no graph on a CPU


def test_a_server_is_measured_over_http():
    with Parties() as parties:
        server, keys = serve(parties, "cpu", {"small": SMALL})
        told = loaded(server, keys, "small-defended", SMALL.rows(4), 6, 0.5)
    assert told["errors"] == {} and told["rows_per_second"] > 0 and 0 < told["p50"] <= told["p99"]


def test_a_phase_that_takes_too_long_is_ended_and_keeps_what_it_told(tmp_path, monkeypatch):
    (tmp_path / "slow.py").write_text(
        "import time\nprint('a warning')\nprint('{\"rows\": 1}', flush=True)\ntime.sleep(600)\n"
    )
    file, said = tmp_path / "gpu.json", []
    monkeypatch.setattr(check, "command_of", lambda name, seconds: [sys.executable, str(tmp_path / "slow.py")])
    results = Check(0.1, file, {"forwards": 20.0}, said.append).run()
    assert results["forwards"] == [{"rows": 1}] and results["log"] == ["forwards: a warning"]
    assert results["phases"]["forwards"]["status"] != 0
    assert json.loads(file.read_text()) == results
    assert len(said) == 2 and "was ended after" in said[-1]


def test_what_is_served_is_compared_with_the_fastest_raw_pass_over_rows_in_memory():
    raw = [
        {"model": "cnn", "precision": "float32", "way": "graph", "input": kind, "rows_per_second": speed}
        for kind, speed in (("device", 900.0), ("pinned", 200.0), ("pageable", 100.0))
    ]
    raw += [{**raw[1], "precision": "tf32", "rows_per_second": 999.0}, {"model": "cnn", "failed": "it"}]
    served = [{"model": "cnn", "rows_per_second": 50.0}, {"model": "other", "rows_per_second": 50.0}]
    check.compare({"forwards": raw, "served": served})
    assert [entry["part_of_best_raw"] for entry in served] == [0.25, None]


def test_the_table_shows_medians_and_ranges_of_rounds():
    load = {"model": "cnn", "rows": 64, "connections": 4, "p99": 2.0, "gpu_busy_percent": None}
    served = [
        {**load, "defended": False, "rows_per_second": speed, "p50": speed / 1000, "part_of_best_raw": None}
        | {"server_cpu_microseconds_a_row": 5.0}
        for speed in (3000.0, 1000.0, 2000.0)
    ]
    raw = {"model": "cnn", "precision": "tf32", "way": "graph", "channels_last": True, "input": "device"}
    results = {
        "date": "2026-01-01",
        "gpu": [],
        "machine": {"cores": 2},
        "versions": {"torch": "2"},
        "settings": {"seconds": 0.5},
        "phases": {"served": {"status": 0}, "forwards": {"status": -15}},
        "served": served,
        "forwards": [{**raw, "rows": 8, "milliseconds": 0.1234}, {"model": "cnn", "doubts": []}],
        "workers": [{**load, "workers": 2, "rows_per_second": 7.0, "p50": 1.0}, {"passes": 40}],
    }
    lines = table(results).splitlines()
    assert lines[0].endswith("ended before its time: forwards")
    assert "| cnn | none | 64 x 4 | 2,000 (1,000 to 3,000) |  | 2.0 (1.0 to 3.0) | 2.0 (2.0 to 2.0) |" in lines[4]
    assert "| cnn | tf32 | graph | last | 0.123 |" in lines
    assert "| cnn | 64 x 4 | 2 | 7 | 1.0 | 2.0 |  |" in lines
