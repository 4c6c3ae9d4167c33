"""A victim of every family, asked over HTTP."""

import json

import numpy as np
import pytest
from kinds import FEATURES, KINDS, trained
from parts import local_server

from server.deployment.models import load_all
from server.deployment.values import MOST_CHARACTERS
from server.settings import read_settings
from wire import BadInput, Oracle, Refused
from wire.http import Endpoint
from zoo import folder
from zoo.data import Pool, load, roles

every_kind = pytest.mark.parametrize("kind", KINDS)
EXPORTED = {"logistic", "torchvision", "svm", "tree", "knn"}
"""To export takes seconds; test_engine.py has the other networks, and other trees stay with torch as this does."""
NOISE = '[{ type = "gaussian_noise", sigma = 0.05 }]'


@pytest.fixture(scope="module")
def models():
    return {kind: trained(kind) for kind in KINDS}


@pytest.fixture(scope="module")
def served(tmp_path_factory, models):
    """A server of a victim of every kind, and of noisy ones of a table and of texts."""
    path = tmp_path_factory.mktemp("kinds")
    config = 'state = "state"\n[plans.paying]\nprice_per_row = "0.0001"\n'
    for kind, (model, _) in models.items():
        folder.save(model, path / kind)
        config += f'[[victims]]\nname = "{kind}"\nfolder = "{kind}"\nmax_rows = 300\n'
        if kind not in EXPORTED and model.card().dtype == "FP32":
            config += 'engine = "torch"\n'
    for kind in ("gbdt", "tfidf"):
        config += f'[[victims]]\nname = "noisy-{kind}"\nfolder = "{kind}"\ndefenses = {NOISE}\n'
        config += 'engine = "torch"\n' if kind == "gbdt" else ""
    (path / "range.toml").write_text(config)
    with local_server(path / "range.toml") as server:
        server.known = server.headers()
        yield server


def endpoint(served, kind):
    key = served.known["Authorization"].partition(" ")[2]
    return Endpoint("http://local", model=kind, key=key, client=served.client)


def as_json(pool, n=3):
    """Returns rows as JSON has them: what is missing is null."""
    if pool.dtype == "BYTES":
        return pool.x[:n].tolist()
    return np.where(np.isnan(pool.x[:n]), None, pool.x[:n].astype(object)).tolist()


def predict(served, kind, instances):
    return served.client.post(f"/v1/models/{kind}:predict", json={"instances": instances}, headers=served.known)


@every_kind
def test_a_victim_answers_in_binary_as_its_model_does(served, models, kind):
    model, pool = models[kind]
    answer = endpoint(served, kind)(pool.x)
    np.testing.assert_allclose(answer.probs, model.predict(pool.x), atol=1e-5)
    np.testing.assert_array_equal(answer.labels, answer.probs.argmax(1))


@every_kind
def test_a_victim_answers_in_json_as_its_model_does(served, models, kind):
    model, pool = models[kind]
    truth = model.predict(pool.x[:3])
    data = np.array(as_json(pool), dtype=object).reshape(-1).tolist()
    tensor = {"name": "input", "shape": [3, *pool.input_shape], "datatype": pool.dtype, "data": data}
    reply = served.client.post(f"/v2/models/{kind}/infer", json={"inputs": [tensor]}, headers=served.known)
    assert reply.status_code == 200, reply.text
    told = {output["name"]: output["data"] for output in reply.json()["outputs"]}
    np.testing.assert_allclose(np.array(told["probabilities"]).reshape(truth.shape), truth, atol=1e-5)
    for prediction, row in zip(predict(served, kind, as_json(pool)).json()["predictions"], truth, strict=True):
        assert prediction["class"] == model.card().class_names[row.argmax()]
        np.testing.assert_allclose(prediction["probabilities"], row, atol=1e-5)


@every_kind
def test_a_card_says_what_a_victim_takes(served, models, kind):
    model, _ = models[kind]
    card = endpoint(served, kind).card
    for name in ("input_shape", "class_names", "low", "high", "dtype", "missing", "features"):
        assert getattr(card, name) == getattr(model.card(), name), name


@every_kind
def test_an_answer_does_not_depend_on_the_rows_beside_it(served, models, kind):
    _, pool = models[kind]
    ask = endpoint(served, kind)
    together = ask(pool.x[:20]).probs
    np.testing.assert_array_equal(np.concatenate([ask(pool.x[i : i + 1]).probs for i in range(20)]), together)


@pytest.mark.parametrize("kind", ["gbdt", "tfidf"])
def test_noise_on_a_row_is_the_same_noise_again(served, models, kind):
    model, pool = models[kind]
    ask = endpoint(served, f"noisy-{kind}")
    first = ask(pool.x[:9]).probs
    np.testing.assert_array_equal(ask(pool.x[8::-1]).probs[::-1], first)
    assert not np.allclose(first, model.predict(pool.x[:9]), atol=1e-3)


def row(**changes):
    values = {"age": 40, "work": 1, "gain": 0} | changes
    return [[values[feature.name] for feature in FEATURES]]


@pytest.mark.parametrize(
    ("kind", "instances", "fault"),
    [
        ("gbdt", row(work=4), "feature 'work' holds 4; expected codes from 0 to 3"),
        ("gbdt", row(work=-1), "feature 'work' holds -1; expected codes from 0 to 3"),
        ("gbdt", row(work=0.5), "feature 'work' holds 0.5"),
        ("gbdt", row(age=1e39), "row 0 holds inf; every value must be a finite number or missing (null, NaN)"),
        ("gbdt", row(age="old"), "numbers only"),
        ("tree-images", [[[[None] * 8] * 8]], "every value must be a finite number"),
        ("tfidf", [["words"]], "list of strings"),
        ("tfidf", [3], "list of strings"),
        ("tfidf", [None], "list of strings"),
        ("tfidf", [{"b64": "AAAA"}], "are not images"),
        (
            "tfidf",
            ["ok", "a" * (MOST_CHARACTERS + 1)],
            f"{MOST_CHARACTERS + 1} characters; at most {MOST_CHARACTERS}",
        ),
        ("tree-images", ["words"], "expected (n, 1, 8, 8), 64 a row"),
    ],
)
def test_rows_that_a_victim_does_not_take_are_refused(served, kind, instances, fault):
    reply = predict(served, kind, instances)
    assert reply.status_code == 400
    assert fault in reply.json()["detail"]


def test_what_is_missing_is_taken_where_the_card_says_so(served):
    assert predict(served, "gbdt", row(age=None, work=None)).status_code == 200


def test_a_text_may_be_long_or_empty(served):
    assert predict(served, "tfidf", ["", "a" * MOST_CHARACTERS]).status_code == 200


def test_texts_that_are_no_utf_8_are_refused(served):
    tensor = {"name": "input", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": 5}}
    head = json.dumps({"inputs": [tensor]}).encode()
    headers = {**served.known, "Inference-Header-Content-Length": str(len(head))}
    body = head + b"\x01\x00\x00\x00\xff"
    reply = served.client.post("/v2/models/tfidf/infer", content=body, headers=headers)
    assert reply.status_code == 400 and "not valid UTF-8" in reply.json()["detail"]


def test_a_text_may_come_without_json_around_it(served):
    headers = {**served.known, "Inference-Header-Content-Length": "0"}
    reply = served.client.post("/v2/models/tfidf/infer", content="a naïve film".encode(), headers=headers)
    assert reply.status_code == 200


def test_rows_of_another_datatype_are_refused(served, models):
    ask = endpoint(served, "tfidf")
    ask.card = endpoint(served, "tree-images").card
    with pytest.raises(Refused, match="rows of shape"):
        ask(models["tree-images"][1].x[:2])


def test_a_table_is_stolen_by_its_numbers(served, models):
    """Knockoff works against a tabular victim, whose features are numbers to it."""
    from attacker.extraction.knockoff import Knockoff
    from zoo.data.pool import Pool

    model, pool = models["gbdt"]
    whole = Pool(pool.x[~np.isnan(pool.x).any(axis=1)])
    ask = endpoint(served, "gbdt")
    surrogate = Knockoff(family="mlp", epochs=5).extract(Oracle(ask, ask.card), whole, np.random.default_rng(0))
    assert surrogate.class_names == model.card().class_names
    assert surrogate.predict(whole.x).shape == (len(whole), 2)


def with_recipe(path, recipe):
    config = f'state = "state"\n[plans.p]\n[[victims]]\nname = "v"\nengine = "torch"\nrecipe = {recipe}\n'
    (path / "range.toml").write_text(config)
    return load_all(read_settings(path / "range.toml", state=path / "state"))["v"].card


@pytest.mark.parametrize(
    ("recipe", "drawn"),
    [('{ name = "iris-softmax" }', "iris"), ('{ data = "iris", family = "knn", seed = 1 }', "iris-1")],
)
def test_the_server_trains_a_victim_by_any_recipe_on_the_rows_of_its_role(tmp_path, recipe, drawn):
    state = tmp_path / "state"
    attackers = roles.hand_out(
        roles.kept(load("iris", None, state), None, state), "attacker", tmp_path / "attacker"
    )
    card = with_recipe(tmp_path, recipe)
    private = Pool.load(state / "roles" / drawn / "victim.npz")
    (kept,) = (state / "cache" / "models").iterdir()
    assert folder.read_card(kept).about == {"seed": int(drawn == "iris-1"), "rows": len(private)}
    theirs = Pool.load(attackers[0])  # drawn before the server started, and it found the same draw
    assert (state / "roles" / "iris" / "pool.npz").read_bytes() == attackers[0].read_bytes()
    assert len(theirs) == 150 * 10 // 70
    assert (card.input_shape, card.class_names) == ((4,), ("setosa", "versicolor", "virginica"))


@pytest.mark.parametrize(
    ("recipe", "fault"),
    [
        ('{ name = "oak" }', "victim v: there is no recipe 'oak'; there are iris-softmax"),
        ('{ family = "oak", data = "iris" }', "victim v: there is no family 'oak'; there are softmax"),
        (
            '{ name = "iris-softmax", family = "knn" }',
            "give either the name of a recipe, or data, family and checkpoints",
        ),
        ('{ name = "adult-gbdt" }', "victim v: adult: no data folder is set; put UCI's"),
    ],
)
def test_a_recipe_without_sense_is_refused(tmp_path, recipe, fault):
    with pytest.raises(BadInput, match=fault):
        with_recipe(tmp_path, recipe)
