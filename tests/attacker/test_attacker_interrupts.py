"""Attacks that end early"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commanding import QUICK, result
from fake_server import FakeServer

from zoo import folder
from zoo.data.pool import Pool
from zoo.network import Network


@pytest.mark.parametrize("name", ["knockoff", "jbda", "gap"])
def test_what_was_answered_before_a_refusal_for_good_is_kept(
    name: str, attack: Callable[..., int], server: FakeServer, pool_file: Path, tmp_path: Path
) -> None:
    server.refuse_after = 130
    options = ["--candidates", pool_file] if name == "gap" else ["--pool", pool_file, "--epochs", 2]
    assert attack(name, *options) == 0
    told = result(tmp_path)
    assert told["status"] == "stopped"
    assert told["reason"] == "this account is closed (HTTP 403)"
    assert told["rows"] == told["account_after"]["rows"] == server.rows == 128
    if name == "gap":
        with np.load(tmp_path / "out" / "scores.npz") as scores:
            assert np.isfinite(scores["scores"]).sum() == 128
    else:
        folder.load(tmp_path / "out" / "surrogate")


def test_an_interrupt_leaves_what_there_is(
    attack: Callable[..., int], server: FakeServer, pool_file: Path, tmp_path: Path
) -> None:
    def interrupt() -> None:
        if server.rows == 64:
            os.kill(os.getpid(), signal.SIGINT)

    server.on_request = interrupt
    assert attack("knockoff", "--pool", pool_file, *QUICK) == 0
    told = result(tmp_path)
    assert (told["status"], told["reason"], told["rows"]) == ("stopped", "interrupted", 128)
    folder.load(tmp_path / "out" / "surrogate")


def test_an_earlier_run_is_replaced_only_by_a_whole_one(
    attack: Callable[..., int], server: FakeServer, pool_file: Path, tmp_path: Path
) -> None:
    def left() -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}

    assert attack("knockoff", "--pool", pool_file, *QUICK) == 0
    before = left()
    for options in (
        ["--pool", tmp_path / "none.npz"],
        ["--key", "wrong"],
        ["--family", "gnn"],
        ["--url", "http://[::1]:1"],
    ):
        assert attack("knockoff", "--pool", pool_file, *options) == 2
        assert left() == before
    server.refuse_after = 0
    assert attack("jbda", "--pool", pool_file) == 2
    assert left() == before
    server.refuse_after = None
    assert attack("gap", "--candidates", pool_file) == 0
    assert {Path(path).name for path in left()} == {"scores.npz", "result.json"}


def test_a_theft_that_needs_probabilities_leaves_its_reason_and_asks_nothing(
    attack: Callable[..., int], server: FakeServer, tmp_path: Path
) -> None:
    server.tells_probs = False
    assert attack("equation-solving") == 0
    told = result(tmp_path)
    assert (told["status"], told["reason"], told["rows"]) == ("not applicable", "labels only", 0)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["result.json"]


def test_an_attack_on_uniform_rows_needs_no_file(
    attack: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert attack("equation-solving", "--ratio", 0.1, "--steps", 5) == 0
    assert len(np.load(tmp_path / "out" / "transfer.npz")["x"]) == 65
    assert attack("knockoff") == 2


def test_an_exhausted_pool_is_said(
    attack: Callable[..., int], digits: Pool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    digits.take(slice(40)).save(tmp_path / "few.npz")
    assert attack("knockoff", "--pool", tmp_path / "few.npz", *QUICK) == 0
    said = "the pool of 40 rows is exhausted; 160 rows of the budget were not spent"
    assert f"done ({said}): 40 rows answered" in capsys.readouterr().out
    assert (result(tmp_path)["status"], result(tmp_path)["reason"]) == ("done", said)


def test_a_second_interrupt_ends_at_once_and_keeps_the_answers(
    attack: Callable[..., int],
    server: FakeServer,
    pool_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupt_twice(*of: object, **options: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Network, "fit", interrupt_twice)
    assert attack("knockoff", "--pool", pool_file, *QUICK) == 130
    path = tmp_path / "out" / "rescued-1.npz"
    assert [path.name for path in (tmp_path / "out").iterdir()] == [path.name]
    assert capsys.readouterr().err.splitlines()[-1] == f"{path}: 200 answered rows of an interrupted run"
    with np.load(path) as rescued:
        assert len(rescued["x"]) == len(rescued["labels"]) == 200


def test_answers_survive_a_kill(
    server: FakeServer, pool_file: Path, tmp_path: Path, attack: Callable[..., int]
) -> None:
    pids: list[int] = []

    def kill() -> None:
        if server.rows == 128:
            os.kill(pids[0], signal.SIGKILL)

    server.on_request = kill
    words = ["knockoff", "--url", server.url, "--key", server.key, "--budget", "200", "--pool", str(pool_file)]
    command = [sys.executable, "-m", "attacker", *words, "--out", str(tmp_path / "out")]
    begun = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    pids.append(begun.pid)
    assert begun.wait() == -signal.SIGKILL
    server.on_request = lambda: None
    assert attack("gap", "--candidates", pool_file) == 0  # the next run into this folder rescues them
    with np.load(tmp_path / "out" / "rescued-1.npz") as rescued:
        assert len(rescued["x"]) == 128


def test_two_attacks_do_not_share_a_folder(
    attack: Callable[..., int],
    server: FakeServer,
    pool_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ended: list[int] = []
    fit = Network.fit

    def fit_beside_another(self: Network, *of: Any, **options: Any) -> Network:
        ended.append(attack("gap", "--candidates", pool_file))
        return fit(self, *of, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Network, "fit", fit_beside_another)
        assert attack("knockoff", "--pool", pool_file, *QUICK) == 0
    assert ended == [2] and "another attack is still writing to this folder" in capsys.readouterr().err
    assert result(tmp_path)["attack"] == "knockoff"
