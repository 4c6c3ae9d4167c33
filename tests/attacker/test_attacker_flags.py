"""What the command says of outcomes, of bad input and of its flags."""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from commanding import QUICK
from fake_server import FakeServer

import attacker
from attacker import ATTACKS
from attacker.command import main
from wire import BadInput
from zoo import data, folder
from zoo.data import roles
from zoo.data.pool import Pool
from zoo.families.mlp import Mlp
from zoo.network import Network


def test_the_outcome_says_what_was_won_and_what_to_do_next(
    attack: Callable[..., int],
    server: FakeServer,
    digits: Pool,
    pool_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert attack("knockoff", "--pool", pool_file, *QUICK) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "done: 200 rows answered, 0.0020 spent"
    assert lines[-1].startswith("next: mlaas-range attack agreement ")
    digits.take(slice(100)).save(tmp_path / "rows.npz")
    words = shlex.split(lines[-1].replace("FILE", str(tmp_path / "rows.npz")))[3:]
    main([*words, "--key", server.key])
    told = capsys.readouterr().out
    assert told.startswith("agreement with m: ") and "on 100 rows" in told
    assert "a constant answer" in told and "accuracy of the victim" in told and "0.0010 spent" in told
    assert server.rows == 300


def test_agreement_refuses_rows_that_the_copy_does_not_take(
    server: FakeServer, digits: Pool, tmp_path: Path
) -> None:
    other = Network.new(Mlp((4,)), (1, 4, 4), ("a", "b"), seed=0)
    folder.save(other, tmp_path / "copy")
    digits.take(slice(5)).save(tmp_path / "rows.npz")
    words = ["--rows", str(tmp_path / "rows.npz"), "--url", server.url, "--key", server.key]
    with pytest.raises(BadInput, match=r"copy does not take these rows: the rows have shape \(1, 8, 8\)"):
        main(["agreement", str(tmp_path / "copy"), *words])
    assert server.rows == 0


def test_not_a_single_answer_is_one_line_and_status_2(
    attack: Callable[..., int],
    server: FakeServer,
    pool_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server.refuse_after = 0
    assert attack("jbda", "--pool", pool_file) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == "error: not a single row was answered: this account is closed (HTTP 403)"
    assert not (tmp_path / "out" / "surrogate").exists()


@pytest.mark.parametrize(
    ("pool", "message"),
    [
        (None, "no such file"),
        (b"not an archive", "not a valid .npz file of rows"),
        (Pool(np.zeros((5, 3, 32, 32), np.float32)), "the rows have shape (3, 32, 32), but m takes (1, 8, 8)"),
        (Pool(np.full((5, 1, 8, 8), 2, np.float32)), "lie between 2 and 2, but m takes 0 to 1"),
        (Pool(np.zeros((0, 1, 8, 8), np.float32)), "there are no rows"),
    ],
    ids=["missing", "broken", "shape", "range", "empty"],
)
def test_a_pool_that_will_not_do_is_one_line_and_costs_nothing(
    pool: Pool | bytes | None,
    message: str,
    attack: Callable[..., int],
    server: FakeServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "rows.npz"
    if isinstance(pool, Pool):
        pool.save(path)
    elif pool is not None:
        path.write_bytes(pool)
    for name in ("knockoff", "gap"):
        assert attack(name, "--candidates" if name == "gap" else "--pool", path) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1
        assert message in lines[0] and str(path) in lines[0]
    assert server.rows == 0


@pytest.mark.parametrize(
    ("y", "message"),
    [(None, 'the rows have no labels ("y")'), ([3, 10], "the largest label is 10, but m has 10 classes")],
    ids=["none", "too great"],
)
def test_candidates_need_labels_of_the_victims_classes(
    y: list[int] | None,
    message: str,
    attack: Callable[..., int],
    server: FakeServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "candidates.npz"
    Pool(np.zeros((2, 1, 8, 8), np.float32), None if y is None else np.array(y)).save(path)
    assert attack("gap", "--candidates", path) == 2
    assert message in capsys.readouterr().err
    assert server.rows == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--budget", "0"], "'0' is not a whole number of at least 1"),
        (["--seed", "-1"], "'-1' is not a whole number of at least 0"),
        (["--out", os.devnull], f"--out {os.devnull}: File exists; expected a writable folder"),
        (["--family", "gnn"], "there is no family 'gnn'; expected one of"),
        (["--epochs", "-1"], "epochs must be at least 0"),
        (["--key", "another"], "unknown key (HTTP 401)"),
        (["--model", "none"], "nothing at /v2/models/none (HTTP 404)"),
        (["--url", "nowhere"], "nowhere"),
    ],
    ids=str,
)
def test_wrong_options_are_one_line(
    options: list[str],
    message: str,
    attack: Callable[..., int],
    server: FakeServer,
    pool_file: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert attack("knockoff", "--pool", pool_file, *options) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert server.rows == 0


def test_a_state_folder_that_cannot_be_written_to_is_one_line_and_costs_nothing(
    attack: Callable[..., int], server: FakeServer, pool_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = ["--candidates", pool_file, "--shadow", pool_file]
    assert attack("shadow", *files, "--state", os.devnull, *QUICK) == 2
    assert os.devnull in capsys.readouterr().err.splitlines()[-1]
    assert server.rows == 0


def test_help_lists_every_attack_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    told = " ".join(capsys.readouterr().out.split())
    for name, cls in ATTACKS.items():
        summary = (cls.__doc__ or "").partition("\n")[0]
        assert f"{name} {summary}" in told


@pytest.mark.parametrize("name", ATTACKS)
def test_every_field_of_an_attack_is_a_flag_with_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([name, "--help"])
    told = capsys.readouterr().out
    settings = told.partition("settings of the attack")[2]
    for field in dataclasses.fields(ATTACKS[name]):
        flag = f"--{field.name.replace('_', '-')}"
        assert len(re.split(f"{flag}[ ,]", settings)[1].split()) > 3


def test_a_process_with_nothing_else_in_reach_steals_over_http(server: FakeServer, tmp_path: Path) -> None:
    home = tmp_path / "alone"
    root = Path(attacker.__file__).parents[1]
    for package in ("attacker", "cli", "wire", "zoo"):
        shutil.copytree(root / package, home / package)
    drawn = roles.kept(data.load("digits", None, tmp_path), None, tmp_path / "state")
    roles.hand_out(drawn, "attacker", home)
    # Without `site` (-S) the environment's link to this checkout is not followed.
    environment = {"PYTHONPATH": f"{home}{os.pathsep}{sysconfig.get_path('purelib')}", "PATH": os.environ["PATH"]}
    python = [sys.executable, "-S"]

    def alone(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*python, *words], cwd=home, env=environment, capture_output=True, text=True, check=False
        )

    for package in ("server", "defenses", "owner", "experiments"):
        assert "ModuleNotFoundError" in alone("-c", f"import {package}").stderr
    words = ["--url", server.url, "--key", server.key, "--budget", "100", "--out", "out"]
    done = alone("-m", "attacker", "knockoff", *words, *QUICK)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("done: 100 rows answered, 0.0010 spent\nout/surrogate: the copy;")
    assert done.stderr == ""
    assert server.rows == 100
    assert (home / "out" / "surrogate" / "weights.safetensors").exists()

    # It holds no private row that is marked as one, and what it draws itself is another split.
    assert {path.name for path in home.glob("*.npz")} == {"pool.npz", "shadow.npz", "candidates.npz"}
    private = {row.tobytes() for row in Pool.load(drawn / "victim.npz").x}
    assert not private & {
        row.tobytes() for name in ("pool", "shadow") for row in Pool.load(home / f"{name}.npz").x
    }
    again = alone("-m", "zoo", "roles", "digits")
    assert again.returncode == 0, again.stderr
    redrawn = {row.tobytes() for row in Pool.load(home / "state" / "roles" / "digits" / "victim.npz").x}
    assert 0.1 < len(private & redrawn) / len(private) < 0.5  # by chance, two sevenths
