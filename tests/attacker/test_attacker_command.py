from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_server import FakeServer

import attacker
from attacker import ATTACKS
from attacker.command import main
from cli.command import run
from wire import BadInput
from zoo import data, folder
from zoo.data import roles
from zoo.data.pool import Pool
from zoo.families.mlp import Mlp
from zoo.network import Network

QUICK = ["--family", "mlp", "--epochs", "2"]


@pytest.fixture
def server(victim: Network) -> Iterator[FakeServer]:
    with FakeServer(victim.predict, victim.input_shape, victim.class_names) as fake:
        yield fake


@pytest.fixture
def pool_file(digits: Pool, tmp_path: Path) -> Path:
    path = tmp_path / "pool.npz"
    digits.take(slice(800, None)).save(path)
    return path


@pytest.fixture
def attack(server: FakeServer, tmp_path: Path) -> Callable[..., int]:
    """Runs the command in this process and returns its exit status."""

    def command(name: str, *options: object, budget: int = 200) -> int:
        reached = ["--url", server.url, "--model", "m", "--key", server.key]
        words = [name, *reached, "--budget", budget, "--out", tmp_path / "out", *options]
        with pytest.raises(SystemExit) as end:
            run(main, [str(word) for word in words])
        assert isinstance(end.value.code, int)
        return end.value.code

    return command


def result(tmp_path: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((tmp_path / "out" / "result.json").read_text())
    return told


def test_extraction_leaves_a_surrogate_its_transfer_set_and_a_result(
    attack: Callable[..., int], server: FakeServer, pool_file: Path, victim: Network, tmp_path: Path
) -> None:
    assert attack("knockoff", "--pool", pool_file, "--seed", 5, *QUICK) == 0
    told = result(tmp_path)
    expected = {"attack": "knockoff", "seed": 5, "budget": 200, "status": "done", "reason": None, "rows": 200}
    assert told.items() >= expected.items()
    assert told["requests"] == 4
    assert told["money"] == 200 * 1000
    assert told["settings"]["family"] == "mlp"
    assert told["endpoint"] == {"url": server.url, "model": "m"}
    assert told["card"]["tells_probs"] is True
    assert (told["account_before"]["rows"], told["account_after"]["rows"]) == (0, 200)
    assert set(told["versions"]) == {"python", "numpy", "torch", "httpx"}
    surrogate = folder.load(tmp_path / "out" / "surrogate")
    about = folder.read_card(tmp_path / "out" / "surrogate").about
    assert about["bill"] == {"rows": 200, "requests": 4, "money": 200_000}
    assert (about["attack"], about["seed"], about["settings"]) == ("knockoff", 5, told["settings"])
    with np.load(tmp_path / "out" / "transfer.npz", allow_pickle=False) as transfer:
        assert transfer["x"].shape == (200, 1, 8, 8)
        assert transfer["probs"] == pytest.approx(victim.predict(transfer["x"]), abs=1e-5)
        assert np.array_equal(transfer["labels"], victim.predict(transfer["x"]).argmax(axis=1))
    assert surrogate.predict(np.zeros((1, 1, 8, 8), np.float32)).shape == (1, 10)
    assert not [
        path for path in (tmp_path / "out").rglob("*") if path.is_file() and server.key in path.read_text("latin1")
    ]


def test_rows_travel_as_told(
    attack: Callable[..., int], server: FakeServer, pool_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "keys.txt").write_text(f"{server.key}\n")
    ways = ["--keys", tmp_path / "keys.txt", "--repeats", 2, "--dummies", 0.5]
    assert attack("knockoff", "--pool", pool_file, *ways, *QUICK) == 0
    told = result(tmp_path)
    assert told["rows"] == server.rows == 200 and told["status"] == "done"
    assert (told["transports"]["repeats"], told["transports"]["dummies"]) == (2, 0.5)
    with np.load(tmp_path / "out" / "transfer.npz") as transfer:
        assert len(transfer["x"]) == 200  # 50 rows of the attack, twice, and as many dummies
    assert attack("knockoff", "--pool", pool_file, "--jitter", 0.5, *QUICK) == 2
    (tmp_path / "keys.txt").write_text("")
    assert attack("knockoff", "--pool", pool_file, "--keys", tmp_path / "keys.txt", *QUICK) == 2


def test_withheld_probabilities_are_nan_in_the_transfer_set(
    attack: Callable[..., int], server: FakeServer, pool_file: Path, tmp_path: Path
) -> None:
    server.top_k = 3
    assert attack("knockoff", "--pool", pool_file, *QUICK) == 0
    with np.load(tmp_path / "out" / "transfer.npz") as transfer:
        assert (np.isfinite(transfer["probs"]).sum(axis=1) == 3).all()
    server.tells_probs = False
    assert attack("jbda", "--pool", pool_file, "--seeds", 20, "--epochs", 1) == 0
    with np.load(tmp_path / "out" / "transfer.npz") as transfer:
        assert transfer["probs"].shape == (200, 10)
        assert np.isnan(transfer["probs"]).all()


@pytest.mark.parametrize("name", ["confidence", "gap", "shadow"])
def test_membership_leaves_scores(
    name: str, attack: Callable[..., int], pool_file: Path, digits: Pool, tmp_path: Path
) -> None:
    candidates = tmp_path / "candidates.npz"
    digits.take(slice(0, 100)).save(candidates)
    options: list[object] = ["--candidates", candidates]
    if name == "shadow":
        quick = ["--references", 2, "--attack-epochs", 2, "--state", tmp_path / "state"]
        options += ["--shadow", pool_file, *QUICK, *quick]
    assert attack(name, *options, budget=60) == 0
    with np.load(tmp_path / "out" / "scores.npz", allow_pickle=False) as scores:
        assert np.isfinite(scores["scores"]).sum() == (45 if name == "shadow" else 60)  # 15 of the population
        assert scores["threshold"] == pytest.approx(np.nan if name == "confidence" else 0.5, nan_ok=True)
        assert np.array_equal(scores["y"], digits.take(slice(0, 100)).y)
    assert result(tmp_path)["status"] == "done"
    assert result(tmp_path)["rows"] == 60


def test_inversion_leaves_a_row_of_the_class(
    attack: Callable[..., int],
    server: FakeServer,
    victim: Network,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert attack("mi-face", "--label", 3, "--waves", 8, budget=3000) == 0
    made = Pool.load(tmp_path / "out" / "inverted.npz")
    assert made.x.shape == (1, *victim.input_shape) and made.y is not None and made.y.tolist() == [3]
    assert victim.predict(made.x)[0, 3] > 0.5
    assert result(tmp_path)["label"] == 3
    assert "inverted.npz" in capsys.readouterr().out
    assert attack("mi-face", "--label", 10) == 2
    assert "the model has the classes 0 to 9" in capsys.readouterr().err


def test_an_attack_that_needs_confidences_does_not_apply_to_labels_only(
    attack: Callable[..., int], server: FakeServer, pool_file: Path, tmp_path: Path
) -> None:
    server.tells_probs = False
    assert attack("confidence", "--candidates", pool_file) == 0
    told = result(tmp_path)
    assert (told["status"], told["reason"], told["rows"]) == ("not applicable", "labels only", 0)
    assert server.rows == 0


def test_a_limit_that_refills_is_waited_for_as_long_as_told(
    attack: Callable[..., int], server: FakeServer, pool_file: Path, tmp_path: Path
) -> None:
    server.rest_after = 64
    assert attack("knockoff", "--pool", pool_file, *QUICK) == 0
    assert (result(tmp_path)["status"], result(tmp_path)["rows"]) == ("done", 200)
    assert server.limited == 1


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
    for field in ATTACKS[name].__dataclass_fields__:
        settings, name = told.partition("settings of the attack")[2], f"--{field.replace('_', '-')}"
        assert len(re.split(f"{name}[ ,]", settings)[1].split()) > 3


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
