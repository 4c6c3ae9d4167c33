"""DAWN's claim, small: two digits' thefts over HTTP, what becomes of the marks, and the changes on arrays."""

import json

import numpy as np
import pytest
import torch

from attacker import Jbda, Knockoff
from experiments.claims.command import reproduce, table
from experiments.claims.dawn_case import AS_STOLEN, FILTERED, JITTERED, STOPPED
from experiments.claims.dawn_removal import C4
from experiments.claims.removal import noisy, pruned, shaken, shifted
from zoo.families import FAMILIES
from zoo.network import Network
from zoo.training import Training

TINY = C4(
    data=("digits",),
    rates=(0.1, 0.4),
    thieves={"knockoff": Knockoff(epochs=30), "jbda": Jbda(seeds=16, rounds=2, epochs=2)},
    once=("jbda",),
    budget=250,
    independents=2,
    independent_rows=300,
    tuning_rows=(50,),
    tuning=Training(epochs=1),
    pruned=(0.25, 0.9),
    shaken=(0.1,),
    noisy=(0.5,),
    distilled_rows=100,
    accounts=(2,),
    patience=1,
)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    base = tmp_path_factory.mktemp("c4")
    return reproduce({"C4": TINY}, out=base / "out", cache=base / "cache", data=None, seeds=range(1))


def test_marks_are_found_in_what_was_stolen_and_in_nothing_else(results):
    assert results["claims"]["C4"]["says"] == C4.SAYS
    suspicions = results["claims"]["C4"]["more"]["suspicions"]
    stolen = {(s["thief"], s["rate"], s["suspect"]): s for s in suspicions if s["stolen"]}
    theft = stolen["knockoff", 0.4, AS_STOLEN]
    assert theft["asked"] == 250 and 60 < theft["marks"] < 140
    assert theft["matches"] > 0.7 * theft["marks"] and theft["p_value"] < 1e-20
    assert stolen["jbda", 0.4, AS_STOLEN]["asked"] == 16 * 4
    removals = {name for thief, rate, name in stolen if (thief, rate) == ("knockoff", 0.4)}
    assert removals == {
        AS_STOLEN,
        "fine-tuned on 50 rows",
        "pruned by 25%",
        "pruned by 90%",
        "weight noise 0.1",
        "asked with noise 0.5",
        "distilled on 100 rows",
        JITTERED,
        FILTERED,
        STOPPED,
        "diluted by as much noise",
        "diluted by as much further rows",
        "split over 2 accounts, the marks of one",
        "split over 2 accounts, the marks of all",
    }
    assert [name for thief, rate, name in stolen if rate == 0.1] == [AS_STOLEN]
    assert stolen["knockoff", 0.4, "distilled on 100 rows"]["matches"] < theft["matches"]
    diluted = stolen["knockoff", 0.4, "diluted by as much noise"]
    assert diluted["asked"] == 500 and diluted["matches"] >= theft["matches"]
    assert diluted["marks"] - theft["marks"] > 60  # marks about noise, which the surrogate never learnt
    assert diluted["matches"] / diluted["marks"] < theft["matches"] / theft["marks"]
    one, both = (stolen["knockoff", 0.4, f"split over 2 accounts, the marks of {of}"] for of in ("one", "all"))
    assert (one["asked"], both["asked"]) == (125, 250)
    assert one["marks"] < both["marks"] == theft["marks"] and both["matches"] == theft["matches"]
    assert stolen["knockoff", 0.4, FILTERED]["matches"] < theft["matches"]
    independent = [s for s in suspicions if not s["stolen"]]
    assert len(independent) == 3 * 2  # thefts, models
    for one in independent:
        assert one["verdict"] == "inconclusive" and one["matches"] < 0.4 * one["marks"]
        assert len(one["independent"]) == 1 and one["p0"] >= 0.1


def test_what_marks_cost_is_what_customers_lose(results):
    for cost in results["claims"]["C4"]["more"]["costs"]:
        assert abs(cost["changed"] - cost["rate"]) < 0.15  # of 128 rows
        assert 0 <= cost["bare"] - cost["marked"] <= cost["changed"]
        assert cost["bare"] > 0.8


def test_published_and_measured_stand_side_by_side(results):
    text = table(json.loads(json.dumps(results)))
    assert "knockoff: mark accuracy" in text and "0.03 to 0.5 %" in text
    accused = next(row for row in results["claims"]["C4"]["rows"] if row["what"] == "independent models accused")
    assert accused["measured"] == 0 and accused["high"] > 0.5  # two models show little


def test_changes_are_what_they_are_called():
    network = Network.new(FAMILIES["cnn"](), (1, 8, 8), ("a", "b"), seed=0)
    before = {name: weight.clone() for name, weight in network.module.state_dict().items()}
    rng = np.random.default_rng(0)
    for level in (0.25, 0.9):
        for layer in pruned(network, level).module.modules():
            if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
                assert float((layer.weight == 0).float().mean()) == pytest.approx(level, abs=0.01)
                assert layer.weight[layer.weight != 0].abs().min() > 0
    moved = shaken(network, 0.5, rng).module.state_dict()
    largest = max(before, key=lambda name: before[name].numel())
    assert float((moved[largest] - before[largest]).std() / before[largest].std()) == pytest.approx(0.5, rel=0.05)
    assert all(torch.equal(weight, network.module.state_dict()[name]) for name, weight in before.items())

    x = np.zeros((300, 1, 5, 5), np.float32)
    x[:, :, 2, 2] = 1
    places = {tuple(np.argwhere(row[0])[0]) for row in shifted(x, 1, rng)}
    assert places == {(i, j) for i in (1, 2, 3) for j in (1, 2, 3)}
    assert np.array_equal(shifted(x, 0, rng), x)
    loud = noisy(x + np.float32(0.5), 0.5, rng) - 0.5
    assert 0.24 < loud[:, :, 0].max() <= 0.25 and -0.25 <= loud[:, :, 0].min() < -0.24
