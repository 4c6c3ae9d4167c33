"""All parties against one another, small: the shape of the demo, on the digits that scikit-learn carries."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from experiments.__main__ import main
from experiments.demo.sizes import REDUCED, Protocol
from experiments.demo.trial import FOLDERS, POLICIES, Trial
from experiments.processes import Failed, Job, Parties
from wire import BadInput
from zoo.data import load, roles

SMALL = Protocol(
    name="small (test)",
    budgets=(40, 150),
    quota=100,
    candidates=128,
    shadows=2,
    shadow_rows=100,
    shadow_epochs=5,
    jbda_seeds=20,
    fit_images=12,
    test_images=12,
    starts=1,
    independents=1,
    independent_rows=300,
)


@pytest.fixture(scope="module")
def trial(tmp_path_factory):
    base = tmp_path_factory.mktemp("trial")
    return Trial(SMALL, base / "out", base / "state", dataset="digits")


@pytest.fixture(scope="module")
def results(trial):
    return trial.run()


def test_every_attack_runs_at_every_policy_and_budget(results):
    runs = {(run["attack"], run["policy"], run["budget"]) for run in results["extraction"]}
    assert runs == {(a, p, b) for a in ("knockoff", "jbda") for p in POLICIES for b in SMALL.budgets}
    assert {(run["attack"], run["policy"]) for run in results["membership"]} == {
        (a, p) for a in ("confidence", "gap", "shadow") for p in POLICIES
    }


def test_the_server_s_ledger_is_the_client_s_count(results):
    for run in [*results["extraction"], *results["membership"]]:
        assert run["ledger"] == {
            "rows": run["rows"],
            "requests": run["requests"],
            "micro_cents": run["money"] or 0,
        }


def test_policies_bite(results):
    stopped = {(run["policy"], run["budget"]): run for run in results["extraction"] if run["status"] == "stopped"}
    assert set(stopped) == {("labels", 150)}
    assert all(run["rows"] == SMALL.quota and "quota" in run["reason"] for run in stopped.values())
    (refused,) = [run for run in results["membership"] if run["status"] == "not applicable"]
    assert (refused["attack"], refused["policy"], refused["reason"]) == ("confidence", "labels", "labels only")


def test_what_is_stolen_is_better_than_chance_and_told_with_its_spread(results):
    for run in results["extraction"]:
        if run["rows"] >= 100:
            rate, low, high = run["agreement"]
            assert low < rate < high and low > 0.2


def test_the_owner_tests_every_suspect_with_controls(results):
    kinds = [suspect["kind"] for suspect in results["ownership"]["suspects"]]
    assert kinds == ["victim", "stolen", "stolen", "independent"]
    assert results["ownership"]["independents_accused"]["suspects"] == 1
    first, *others = results["ownership"]["suspects"]
    asked = sum(suspect["suspect_queries"] + suspect["victim_queries"] for suspect in [first, *others])
    assert asked == sum(ledger["rows"] for ledger in results["ownership"]["ledgers"].values())
    assert first["victim_queries"] > 0 and not any(suspect["victim_queries"] for suspect in others)


def test_scores_are_judged_from_their_files(trial, results, tmp_path, capsys):
    folder = roles.written(load("digits", None, tmp_path), 0, tmp_path / "roles")
    main(["judge", str(trial.out / "attacker" / "runs" / "gap-open" / "scores.npz"), str(folder / "truth.npz")])
    (gap,) = [run for run in results["membership"] if (run["attack"], run["policy"]) == ("gap", "open")]
    assert f"AUC {gap['auc']:.4f}" in capsys.readouterr().out
    np.savez(tmp_path / "scores.npz", scores=np.zeros(3))
    with pytest.raises(BadInput, match="not of one draw"):
        main(["judge", str(tmp_path / "scores.npz"), str(folder / "truth.npz")])


def test_parties_hold_only_the_files_of_their_roles(trial, results):
    attacker = {path.name for path in (trial.out / "attacker").glob("*.npz")}
    assert attacker == {"pool.npz", "shadow.npz", "candidates.npz"}
    assert {path.name for path in (trial.out / "owner").glob("*.npz")} == {
        "private.npz",
        "unseen.npz",
        "features.npz",
    }


def test_all_that_a_trial_leaves_is_cleared_by_the_next(trial, results):
    assert {path.name for path in trial.out.iterdir()} == {*FOLDERS, "results.json"}


@pytest.mark.slow
def test_a_second_trial_finds_what_the_first_trained(trial, results):
    again = trial.run()
    for run, before in zip(again["extraction"], results["extraction"], strict=True):
        if run["policy"] != "top3":  # its noise follows the server's secret, which each trial draws anew
            for entry in ("rows", "accuracy", "agreement"):
                assert run[entry] == before[entry]
    assert again["victim"] == results["victim"]


def test_nothing_runs_on(trial, results):
    assert not _running(str(trial.out))


def test_small_data_sets_cut_the_protocol_down(tmp_path):
    held = roles.draw(load("digits", None, tmp_path), 0)
    fitted = REDUCED.fitted(held)
    assert fitted.budgets == (250, 256) and fitted.jbda_seeds == 150
    assert (fitted.candidates, fitted.shadow_rows, fitted.fit_images) == (128, 128, 64)
    assert fitted.fit_images + fitted.test_images <= len(held["unseen"])


def test_a_party_that_fails_is_named_with_its_last_line(tmp_path):
    with Parties(tmp_path / "logs") as parties, pytest.raises(Failed, match=r"lost failed: .*invalid choice"):
        parties.run([Job("lost", ["attacker", "nothing"], tmp_path)], at_once=1, label="test")


def test_an_interrupt_ends_every_party(tmp_path):
    command = [
        sys.executable,
        "-m",
        "experiments",
        "demo",
        "--dataset",
        "digits",
        "--out",
        "out",
        "--state",
        "state",
    ]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while not _running(str(tmp_path / "out" / "victims")) and time.monotonic() < deadline:
            time.sleep(0.2)
        time.sleep(1)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    assert not _running(str(tmp_path / "out"))


def _running(path):
    """Lists processes that name a path, other than this one and the demo itself."""
    listing = subprocess.run(["ps", "-wweo", "pid,args"], capture_output=True, text=True, check=True).stdout
    lines = [line for line in listing.splitlines() if path in line and "-m experiments" not in line]
    return [line for line in lines if int(line.split()[0]) != os.getpid()]
