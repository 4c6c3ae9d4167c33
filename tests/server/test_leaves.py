"""Leaves as a third output: which models tell them, and who is told."""

import numpy as np
import pytest
from kinds import images, trained
from parts import local_server

from server.deployment.models import load_all
from server.settings import read_settings
from wire import BadInput
from wire.http import Endpoint
from zoo import folder
from zoo.families.trees import Tree
from zoo.recipe import Recipe

CONFIG = """
state = "state"
[plans.open]
[plans.plain]
defenses = [{ type = "withhold_leaves" }]
[plans.rounded]
defenses = [{ type = "rounding", digits = 2 }]
"""
DECEIVED = '[{ type = "prada", delta = 1.0, enough = 2, reaction = "deceive" }]'


@pytest.fixture(scope="module")
def models():
    return {kind: trained(kind) for kind in ("tree", "forest", "gbdt")}


@pytest.fixture(scope="module")
def served(tmp_path_factory, models):
    path = tmp_path_factory.mktemp("leaves")
    config = CONFIG
    for kind, (model, _) in models.items():
        folder.save(model, path / kind)
        config += f'[[victims]]\nname = "{kind}"\nfolder = "{kind}"\nleaves = true\nengine = "torch"\n'
    config += '[[victims]]\nname = "silent"\nfolder = "tree"\nengine = "torch"\n'
    folder.save(Recipe(Tree()).train(images()), path / "pictures")
    config += '[[victims]]\nname = "watched"\nfolder = "pictures"\nleaves = true\nengine = "torch"\n'
    config += f"defenses = {DECEIVED}\n"
    (path / "range.toml").write_text(config)
    with local_server(path / "range.toml") as server:
        server.plans = {plan: server.headers(plan, plan) for plan in ("open", "plain", "rounded")}
        yield server


def endpoint(served, model, plan="open"):
    key = served.plans[plan]["Authorization"].partition(" ")[2]
    return Endpoint("http://local", model=model, key=key, client=served.client)


@pytest.mark.parametrize("kind", ["tree", "forest", "gbdt"])
def test_a_model_of_trees_tells_the_leaves_that_rows_reach(served, models, kind):
    model, pool = models[kind]
    victim = endpoint(served, kind)
    answer, leaves = victim(pool.x), model.network().leaves(pool.x)
    assert victim.card.trees == model.network().trees == leaves.shape[1] > 0
    np.testing.assert_array_equal(answer.leaves, leaves)
    np.testing.assert_allclose(answer.probs, model.predict(pool.x), atol=1e-6)
    _, first = np.unique(leaves, axis=0, return_index=True)
    assert len(first) > 1
    for row in first[:20]:  # rows of the same leaves have the same answer
        same = (leaves == leaves[row]).all(axis=1)
        assert np.ptp(answer.probs[same], axis=0).max() == 0


def test_v1_tells_them_too(served, models):
    model, pool = models["forest"]
    x = pool.x[~np.isnan(pool.x).any(axis=1)][:2]
    reply = served.client.post(
        "/v1/models/forest:predict", json={"instances": x.tolist()}, headers=served.plans["open"]
    )
    told = [row["leaves"] for row in reply.json()["predictions"]]
    np.testing.assert_array_equal(told, model.network().leaves(x))


@pytest.mark.parametrize(("model", "plan"), [("forest", "plain"), ("forest", "rounded"), ("silent", "open")])
def test_a_plan_or_a_model_without_leaves_tells_none(served, models, model, plan):
    x = models["tree"][1].x[:5]
    victim = endpoint(served, model, plan)
    assert victim.card.trees == 0 and ("leaves", "leaves") not in victim.card.outputs
    assert victim(x).leaves is None
    assert victim.card.digits == (2 if plan == "rounded" else None)
    tensor = {"name": "input", "shape": [5, *x.shape[1:]], "datatype": "FP32", "data": x.tolist()}
    body = {"inputs": [tensor], "outputs": [{"name": "leaves"}]}
    reply = served.client.post(f"/v2/models/{model}/infer", json=body, headers=served.plans[plan])
    assert reply.status_code == 400 and "no output 'leaves'" in reply.text


def test_from_an_alarm_on_leaves_are_withheld(served):
    answer = endpoint(served, "watched")(images().x[:60])
    (withheld,) = np.nonzero(answer.leaves[:, 0] < 0)
    assert 0 < withheld[0] < 20 and (np.diff(withheld) == 1).all() and withheld[-1] == 59


def test_a_model_without_trees_has_no_leaves(tmp_path):
    model, _ = trained("mlp")
    folder.save(model, tmp_path / "mlp")
    config = 'state = "state"\n[plans.open]\n[[victims]]\nname = "a"\nfolder = "mlp"\nleaves = true\n'
    (tmp_path / "range.toml").write_text(config)
    with pytest.raises(BadInput, match="a mlp is none"):
        load_all(read_settings(tmp_path / "range.toml"))
