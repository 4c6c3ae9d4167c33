"""All parties against one another, small: the shape of the demo, on the digits that scikit-learn carries."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from attacker import ATTACKS, EXTRACTION, MEMBERSHIP
from experiments.__main__ import main
from experiments.demo.attacks import extractions, memberships
from experiments.demo.place import FOLDERS, POLICIES
from experiments.demo.sizes import FULL, REDUCED, Protocol
from experiments.demo.trial import Trial
from experiments.parties import Job, Parties
from experiments.processes import Failed
from wire import BadInput
from zoo.data import load, roles
from zoo.families import FAMILIES

SMALL = Protocol(
    name="small (test)",
    family="mlp",
    batch=64,
    budgets=(150,),
    every_budget=("knockoff",),
    settings={
        "knockoff": {"family": "mlp"},
        "jbda": {"seeds": 20},
        "t-rnd": {"seeds": 20, "lrs": (1e-3,), "epochs": (2,)},
        "line-search": {"points": 50, "epochs": 2},
        **{
            name: {"references": 4, "family": "mlp", "epochs": (5,)}
            for name in ("shadow", "label-only", "blind-walk", "lira", "rmia", "threshold", "union")
        },
        "quantile": {"family": "mlp", "epochs": 2},
        "imia": {"family": "mlp"},
    },
    quota=100,
    candidates=128,
    twins=3,
    controls=2,
    independents=1,
    independent_rows=300,
    walked=1,
    fit_images=12,
    test_images=12,
    starts=1,
)


@pytest.mark.parametrize("name", [*EXTRACTION, *MEMBERSHIP])
def test_no_party_of_the_demo_trains_a_cnn(name):
    attack = {**EXTRACTION, **MEMBERSHIP}[name](**REDUCED.settings.get(name, {}))
    family = getattr(attack, "family", "mlp")
    assert family == "mlp" or FAMILIES[family].texts  # the demo's victim takes none


pytestmark = pytest.mark.timeout(900)  # some thirty processes, each of which loads torch


@pytest.fixture(scope="module")
def trial(tmp_path_factory):
    base = tmp_path_factory.mktemp("trial")
    return Trial(SMALL, base / "out", base / "state", dataset="digits")


def tried(trial):
    """Runs a trial with half of the attacks; each is two processes or more."""
    with pytest.MonkeyPatch.context() as patch:
        for registry, kept in ((EXTRACTION, ("knockoff", "jbda")), (MEMBERSHIP, ("confidence", "gap"))):
            patch.setattr(registry, "targets", {name: registry.targets[name] for name in kept})
        return trial.run()


@pytest.fixture(scope="module")
def results(trial):
    return tried(trial)


def ran(runs):
    return {(run["attack"], run["policy"]) for run in runs}


def test_the_attacks_run_at_every_policy(results):
    assert ran(results["extraction"]) == {(a, p) for a in ("knockoff", "jbda") for p in POLICIES}
    assert ran(results["membership"]) == {(a, p) for a in ("confidence", "gap") for p in POLICIES}


def test_every_registered_attack_is_to_run_at_every_policy():
    for registry, jobs in ((EXTRACTION, extractions(SMALL)), (MEMBERSHIP, memberships(SMALL))):
        assert {(job.attack, job.policy) for job in jobs} == {(a, p) for a in registry for p in POLICIES}


@pytest.mark.slow
def test_every_registered_attack_runs_at_every_policy(tmp_path):
    results = Trial(SMALL, tmp_path / "out", tmp_path / "state", dataset="digits").run()
    assert ran(results["extraction"]) == {(a, p) for a in EXTRACTION for p in POLICIES}
    assert ran(results["membership"]) == {(a, p) for a in MEMBERSHIP for p in POLICIES}


def test_an_attack_that_is_registered_is_in_the_demo(monkeypatch):
    monkeypatch.setitem(EXTRACTION.targets, "toy-theft", "attacker.extraction.knockoff:Knockoff")
    monkeypatch.setitem(MEMBERSHIP.targets, "toy-scores", "attacker.membership.gap:Gap")
    thefts = [run for run in extractions(REDUCED) if run.attack == "toy-theft"]
    assert [(run.policy, run.budget, run.settings) for run in thefts] == [(p, 1000, {}) for p in POLICIES]
    knockoff = {run.budget for run in extractions(REDUCED) if run.attack == "knockoff"}
    assert knockoff == set(REDUCED.budgets)
    assert thefts[0].arguments[:5] == ["toy-theft", "--model", "open", "--budget", "1000"]
    assert [run.policy for run in memberships(REDUCED) if run.attack == "toy-scores"] == list(POLICIES)


def test_the_sizes_are_settings_of_registered_attacks():
    for protocol in (REDUCED, FULL, SMALL):
        assert set(protocol.every_budget) <= set(EXTRACTION)
        for name, settings in protocol.settings.items():
            ATTACKS[name](**settings)
    (run,) = [run for run in extractions(SMALL) if (run.attack, run.policy) == ("t-rnd", "open")]
    assert run.arguments[-6:] == ["--seeds", "20", "--lrs", "0.001", "--epochs", "2"]


def test_the_null_holds(results):
    assert set(results["null"]) == {"confidence", "gap", "blind"}
    assert all(abs(area - 0.5) < 0.1 for area in results["null"].values())


def test_the_server_s_ledger_is_the_client_s_count(results):
    for run in [*results["extraction"], *results["membership"]]:
        assert run["ledger"] == {
            "rows": run["rows"],
            "requests": run["requests"],
            "micro_cents": run["money"] or 0,
        }


def test_policies_bite(results):
    stopped = [run for run in results["extraction"] if (run["policy"], run["status"]) == ("labels", "stopped")]
    assert {run["budget"] for run in stopped} == {150}
    assert all(run["rows"] == SMALL.quota and "quota" in run["reason"] for run in stopped)
    refused = [run for run in results["membership"] if run["status"] == "not applicable"]
    assert [(run["attack"], run["policy"], run["reason"]) for run in refused] == [
        ("confidence", "labels", "labels only")
    ]


def test_alarms_are_those_of_accounts_at_the_guarded_policy(results):
    guarded = {
        run["account"] for run in [*results["extraction"], *results["membership"]] if run["policy"] == "guarded"
    }
    assert {alarm["account"] for alarm in results["alarms"]} <= guarded


def test_what_is_stolen_is_better_than_chance_and_has_its_interval(results):
    for run in results["extraction"]:
        rate, low, high = run["agreement"]
        assert low < rate < high
        assert run["attack"] not in ("knockoff", "jbda") or low > 0.2


def test_the_owner_tests_every_suspect_with_controls(results):
    owned, stolen = results["ownership"], [f"knockoff-{policy}" for policy in POLICIES]
    twins, walked = (owned["tests"][test] for test in ("twin-test", "dataset-inference"))
    assert [one["name"] for one in twins] == ["victim", *stolen, "independent-0"]
    assert [one["name"] for one in walked] == ["victim", "knockoff-open", "knockoff-labels", "independent-0"]
    assert all(len(one["independent"]) == SMALL.controls and one["models"] == 1 + SMALL.twins for one in twins)
    assert all(one["root"] == owned["root"] and not one["guessable_seed"] for one in twins)
    assert {one["account"] for one in twins if one["account"]} == {f"{name}-150" for name in stolen}
    assert {found["suspects"] for found in owned["false_accusations"].values()} == {1}
    assert (twins[0]["rank"], twins[0]["z"] > 3) == (1, True)


def test_a_judge_repeats_the_proof_about_the_first_theft(trial, results):
    judgement, twins = results["ownership"]["judgement"], results["ownership"]["tests"]["twin-test"]
    (first,) = [one for one in twins if one["name"] == judgement["suspect"] == "knockoff-open"]
    assert judgement["outcome"] in {"derived", "not shown"} and judgement["rows"] == first["suspect_queries"]
    assert judgement["money"] == 10_000 * judgement["rows"] and np.isclose(judgement["z"], first["z"], rtol=0.01)
    checked = " ".join(judgement["checked"])
    assert "is older than the suspect" in checked and "3 models were trained again, the victim among" in checked
    assert "Was “knockoff-open” made from" in (trial.out / judgement["page"]).read_text()


def test_the_owner_pays_for_proofs_what_a_thief_pays_for_rows(results):
    owned = results["ownership"]
    found = [one for tests in owned["tests"].values() for one in tests]
    asked = sum(one["suspect_queries"] + one.get("victim_queries", 0) for one in found)
    assert asked == sum(ledger["rows"] for ledger in owned["ledgers"].values())
    assert all(one["money"] == 10_000 * one["suspect_queries"] for one in found if one["kind"] != "victim")
    first, *others = owned["tests"]["dataset-inference"]
    assert first["victim_queries"] > 0 and not any(one["victim_queries"] for one in others)


def test_scores_are_judged_from_their_files(trial, results, tmp_path, capsys):
    folder = roles.written(load("digits", None, tmp_path), 0, tmp_path / "roles")
    (gap,) = [run for run in results["membership"] if (run["attack"], run["policy"]) == ("gap", "open")]
    scores = trial.out / "attacker" / "runs" / gap["account"] / "scores.npz"
    main(["judge", str(scores), str(folder / "truth.npz")])
    assert f"AUC {gap['auc']:.4f}" in capsys.readouterr().out
    np.savez(tmp_path / "scores.npz", scores=np.zeros(3))
    with pytest.raises(BadInput, match="not of one draw"):
        main(["judge", str(tmp_path / "scores.npz"), str(folder / "truth.npz")])


def test_parties_hold_only_the_files_of_their_roles(trial, results):
    attacker = {path.name for path in (trial.out / "attacker").glob("*.npz")}
    assert attacker == {"pool.npz", "shadow.npz", "candidates.npz"}
    owner = {path.name for path in (trial.out / "owner").glob("*.npz")}
    assert owner == {"private.npz", "unseen.npz", "reference.npz", "features.npz"}


def test_all_that_a_trial_leaves_is_cleared_by_the_next(trial, results):
    assert {path.name for path in trial.out.iterdir()} == {*FOLDERS, "results.json", "proof.html"}


@pytest.mark.slow
def test_a_second_trial_finds_what_the_first_trained(trial, results):
    again = tried(trial)
    for run, before in zip(again["extraction"], results["extraction"], strict=True):
        # Noise and marks follow the server's secret, which each trial draws anew.
        if run["policy"] not in ("top3", "guarded"):
            for entry in ("rows", "accuracy", "agreement"):
                assert run[entry] == before[entry]
    assert again["victim"] == results["victim"]


def test_nothing_runs_on(trial, results):
    assert not _running(str(trial.out))


def test_small_data_sets_cut_the_protocol_down(tmp_path):
    held = roles.draw(load("digits", None, tmp_path), 0)
    fitted = REDUCED.fitted(held)
    assert fitted.budgets == (250, 256) and fitted.settings["jbda"] == {"family": "mlp", "seeds": 150}
    assert (fitted.candidates, fitted.fit_images) == (128, 64)
    assert fitted.fit_images + fitted.test_images <= len(held["unseen"])


def test_a_party_that_fails_is_named_with_its_last_line(tmp_path):
    with Parties(tmp_path) as parties, pytest.raises(Failed, match=r"lost failed: .*invalid choice"):
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
