"""The claims about marks, small: digits, few epochs."""

import json

import numpy as np
import pytest

from attacker import Knockoff
from defenses.training.adversarial import Pgd
from experiments.claims import conflicts
from experiments.claims.backdoor import C1
from experiments.claims.claim import share
from experiments.claims.command import reproduce, table
from experiments.claims.conflicts import Conflicts
from experiments.claims.false_claims import C8, validity
from experiments.claims.radioactive import C5
from experiments.claims.removal import quantised, tuned
from experiments.court import fingerprints, marks
from experiments.court.court import Sizes, transferable
from owner.conferrable import Conferrable
from owner.dataset_inference.by_weights import InferenceByWeights
from owner.dataset_inference.dataset_inference import DatasetInference
from owner.honeytrace import HoneytraceTest
from owner.radioactive import RadioactiveTest
from tests.kinds import images
from wire import BadInput
from zoo.families.mlp import Mlp
from zoo.recipe import Recipe
from zoo.training import Training

FEW = Training(epochs=2, batch=32)
SMALL = {"rows": 300, "hidden": (32,), "training": FEW}

LONGER = {**SMALL, "hidden": (64,), "training": Training(epochs=20, batch=32)}


def run(claim, tmp_path):
    results = reproduce({claim.ID: claim}, out=None, cache=tmp_path / "cache", data=None, seeds=range(1))
    assert table(results)
    return json.loads(json.dumps(results))["claims"][claim.ID]


@pytest.mark.slow
def test_marks_are_measured_in_changed_stolen_and_independent_models(tmp_path):
    thief = ("knockoff", Knockoff("mlp", epochs=2))
    sizes = {"independents": 6, "alike": 2, "judges": 2, "tuning_rows": 50, "budget": 100, "thieves": (thief,)}
    found = run(C1(data="digits", kinds=("abstract", "pixel"), tuning=FEW, **sizes, **SMALL), tmp_path)
    names = {name for name in found["more"]["suspects"] if name.startswith("abstract")}
    assert {"abstract: scratch", "abstract: retrained, last layer", "abstract: knockoff, labels"} < names
    assert len(names) == 13 and all(
        0 <= pair[1] <= 1 for of in found["more"]["suspects"].values() for pair in of.values()
    )
    nulls = [row for row in found["rows"] if row["what"].startswith("independent models accused")]
    assert [row["measured"] for row in nulls] == [0, 0] and all("0 of 6" in row["spread"] for row in nulls)


def test_radioactive_data_is_measured_by_weights_and_by_answers(tmp_path):
    sizes = {"independents": 4, "alike": 1, "judges": 3, "clean": 200, "stolen": 200}
    found = run(C5(data="digits", shares=(0.5,), **sizes, **LONGER), tmp_path)
    measured = {row["what"]: row["measured"] for row in found["rows"]}
    assert measured["mean cosine, 50% marked"] > 0 and measured["log10 p by weights, 50% marked"] < 0
    assert measured["loss difference, 50% marked"] > measured["loss difference, 50% marked, no mark in training"]
    counts = found["more"]["found"]
    assert [counts[f"independent, {kind}"]["trials"] for kind in ("alike", "smaller")] == [1, 3]
    assert {f"50% marked, stolen by {what}" for what in ("labels", "probabilities")} < {*counts}


def test_conflicts_are_measured_beside_what_each_protection_does_alone(tmp_path, monkeypatch):
    pytest.importorskip("opacus")
    monkeypatch.setattr(conflicts, "INFERENCE", DatasetInference(10, 5, starts=2, walk_steps=3))
    private = Training(epochs=1, batch=50, lr=1e-2, noise=1.0)
    sizes = {"data": ("digits",), "private": private, "pgd": Pgd(steps=2), "attacked": 50, "twins": 3}
    found = run(Conflicts(**sizes, **SMALL), tmp_path)
    names = [row["what"] for row in found["rows"]]
    assert {
        "none: test accuracy",
        "WM+DP: trigger accuracy",
        "RAD+ADV: loss difference",
        "ADV: adversarial accuracy",
    } < {*names}
    assert {"DI+DP: log10 p of dataset inference", "TWIN+ADV: z of a copy among twins"} < {*names}
    assert {"WM+DP, triggers apart: trigger accuracy", "RAD+ADV, milder: loss difference"} < {*names}
    assert {"WM+DP+ADV: trigger accuracy", "THIEF TWIN+DP+ADV: z of a copy that is trained so"} < {*names}
    assert len(names) == len(set(names)) and any("epsilon" in note for note in found["notes"])
    assert {*found["more"]["conflicts"]["digits"].values()} == {"undecided"}  # by one seed


def test_a_conflict_is_called_by_the_interval_over_seeds():
    alone = {"WM: trigger accuracy": 1.0, "RAD: loss difference": 0.2}
    alone |= {f"{name}: test accuracy": 0.9 for name in ("WM", "RAD", "DP")}
    both = {"WM+DP: trigger accuracy": 0.3, "WM+DP: test accuracy": 0.88, "RAD+DP: loss difference": -0.1}
    found = {what: dict(enumerate((value, value + 0.01, value - 0.01))) for what, value in (alone | both).items()}
    found["RAD+DP: test accuracy"] = {0: 0.9, 1: 0.6, 2: 0.9}
    assert conflicts.called(found) == {
        "WM+DP: trigger accuracy": "conflict",
        "WM+DP: test accuracy": "none",
        "RAD+DP: loss difference": "conflict",
        "RAD+DP: test accuracy": "undecided",
    }


def test_triggers_that_are_trained_on_apart_are_learnt_under_dp_sgd():
    pytest.importorskip("opacus")
    claim = Conflicts(hidden=(32,), private=Training(epochs=15, batch=50, lr=1e-2, noise=2.0), apart=20)
    pool, wrong = images(200), images(20, seed=9)
    triggers = np.ascontiguousarray(wrong.x[:, :, ::-1]), (wrong.y + 1) % 3
    held = {}
    for how in ("DP", "DP, triggers apart"):
        network = claim._trained(pool, how, 1, triggers)
        held[how] = (network.predict(triggers[0]).argmax(1) == triggers[1]).mean()
    assert held["DP, triggers apart"] > 0.6 > held["DP"] + 0.2


@pytest.mark.slow
def test_every_scheme_is_judged_by_the_same_court(tmp_path, monkeypatch):
    monkeypatch.setattr(
        fingerprints, "INFERENCE", DatasetInference(fit_images=10, test_images=5, starts=2, walk_steps=3)
    )
    monkeypatch.setattr(
        fingerprints, "FINGERPRINT", Conferrable(rows=20, models=2, epochs=2, candidates=50, steps=3)
    )
    monkeypatch.setattr(marks, "MARKED", RadioactiveTest(rows=10, wrong=3))
    monkeypatch.setattr(marks, "TRACED", HoneytraceTest(rows=10, wrong=3))
    monkeypatch.setattr(fingerprints, "WEIGHED", InferenceByWeights(fit_images=10, test_images=5, steps=3))
    sizes = Sizes(
        **{**LONGER, "rows": 100},
        twins=5,
        stolen=250,
        tuning=FEW,
        tuning_rows=50,
        references=3,
        own_training=LONGER["training"],
        radius=0.3,
        step=0.05,
        steps=10,
        candidates=150,
        secrets=3,
        marked_secrets=2,
    )
    found = run(C8(data="digits", sizes=sizes, independents=6, alike=4, judges=6, costly=3), tmp_path)
    schemes = found["more"]["schemes"]
    assert len(schemes) == 9 and {"backdoor", "DAWN", "twin test", "own errors"} < {*schemes}
    assert len(schemes["backdoor"]["power"]) == 13 and len(schemes["DAWN"]["power"]) == 6
    assert schemes["dataset inference"]["trials"] == 3 and schemes["twin test"]["trials"] == 6
    cheats = schemes["backdoor"]["cheats"]
    assert cheats["cheat, no counter-measure"] > cheats["cheat, all from a committed secret"] == 0
    assert schemes["backdoor"]["independent"]["alike"] == {
        **dict.fromkeys(("published", "compared", "judged"), 0),
        "trials": 4,
    }


def test_a_rate_is_valid_undecided_or_invalid_by_its_interval():
    rates = [share("", "", "", hits, 1000, seeds=(), baseline="") for hits in (0, 10, 40)]
    assert [validity(one).split(":")[0] for one in rates] == ["valid", "undecided", "invalid"]


@pytest.fixture(scope="module")
def network():
    return Recipe(Mlp((16,)), Training(epochs=5)).train(images(100)).network()


def test_adversarial_images_are_near_and_fool_the_network(network):
    x = images(100, seed=2).x
    moved = Pgd(0.2, 0.05, 10).moved(network, x, 0)
    assert np.abs(moved - x).max() <= 0.2 + 1e-6 and moved.min() >= 0 and moved.max() <= 1
    before, after = (network.predict(rows).argmax(1) for rows in (x, moved))
    assert (before != after).mean() > 0.3
    with pytest.raises(BadInput, match="greater than 0"):
        Pgd(radius=0)


def test_tuning_the_last_layer_leaves_the_others_alone(network):
    rows = images(60, seed=3)
    last = tuned(network, rows, FEW, 0, last=True, fresh=True)
    every = tuned(network, rows, FEW, 0, last=False, fresh=False)
    (first, *_, final) = network.tensors()
    assert np.array_equal(last.tensors()[first], network.tensors()[first])
    assert not np.array_equal(last.tensors()[final], network.tensors()[final])
    assert not np.array_equal(every.tensors()[first], network.tensors()[first])


def test_quantised_weights_have_few_values(network):
    weights = quantised(network, 2).tensors()
    assert all(len(np.unique(tensor)) <= 4 for tensor in weights.values())
    x = images(20).x
    assert np.abs(quantised(network, 8).predict(x) - network.predict(x)).max() < 0.1


def test_transferable_images_lead_all_models_to_their_label(network):
    other = Recipe(Mlp((16,)), Training(epochs=30, lr=1e-2), seed=1).train(images(100, seed=8)).network()
    rows = images(30, seed=4)
    target = (rows.y + 1) % 3
    x = transferable([network, other], rows.x, target, Sizes(radius=1.0, step=0.05, steps=60))
    assert np.abs(x - rows.x).max() <= 1.0 + 1 / 255
    for model in (network, other):
        before, after = ((model.predict(r).argmax(1) == target).mean() for r in (rows.x, x))
        assert after > before + 0.3
