"""Victims in float64: rows and probabilities travel as FP64, and lose nothing on the way."""

import numpy as np
import pytest
import torch
from parts import local_server

from server.settings import read_settings
from wire import BadInput
from wire.http import Endpoint
from zoo import folder
from zoo.families.mlp import Mlp
from zoo.network import Network

CONFIG = """
state = "state"
[plans.open]
[[victims]]
name = "wide"
folder = "network"
precision = "float64"
[[victims]]
name = "watched"
folder = "network"
precision = "float64"
defenses = [{ type = "prada", delta = 0.9 }]
[[victims]]
name = "plain"
folder = "network"
engine = "torch"
"""


@pytest.fixture(scope="module")
def network():
    return Network.new(Mlp((6, 5)), (4,), ("a", "b"), seed=0)


@pytest.fixture(scope="module")
def served(tmp_path_factory, network):
    path = tmp_path_factory.mktemp("wide")
    folder.save(network, path / "network")
    (path / "range.toml").write_text(CONFIG)
    with local_server(path / "range.toml") as server:
        server.key = server.headers("open", "open")["Authorization"].partition(" ")[2]
        yield server


def exact(network, x):
    """The network's probabilities in double precision, in numpy."""
    layers = [part.detach().double().numpy() for part in network.module.parameters()]
    for weight, bias in zip(layers[::2], layers[1::2], strict=True):
        x = x @ weight.T + bias if weight.shape[1] == 4 else np.maximum(x, 0) @ weight.T + bias
    odds = np.exp(x - x.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("name", ["wide", "watched"])
def test_rows_and_probabilities_are_exact(served, network, name):
    victim = Endpoint("http://local", model=name, key=served.key, client=served.client)
    assert victim.card.dtype == "FP64"
    x = np.random.default_rng(0).uniform(size=(40, 4))
    answer = victim(x)
    assert answer.probs.dtype == np.float64
    np.testing.assert_allclose(answer.probs, exact(network, x), rtol=1e-13)
    moved = victim(x + 1e-12)  # less than float32 tells
    assert (np.abs(moved.probs - answer.probs) > 0).all(axis=1).mean() > 0.9


def test_a_plain_victim_of_the_same_folder_is_in_float32(served, network):
    victim = Endpoint("http://local", model="plain", key=served.key, client=served.client)
    x = np.random.default_rng(0).uniform(size=(40, 4))
    assert victim.card.dtype == "FP32" and victim(x).probs.dtype == np.float32
    np.testing.assert_array_equal(victim(x).probs, network.predict(x))


def test_json_and_v1_carry_them_too(served, network):
    x = np.random.default_rng(1).uniform(size=(3, 4))
    body = {"inputs": [{"name": "input", "shape": [3, 4], "datatype": "FP64", "data": x.tolist()}]}
    headers = {"Authorization": f"Bearer {served.key}"}
    outputs = served.client.post("http://local/v2/models/wide/infer", json=body, headers=headers).json()["outputs"]
    told = next(output for output in outputs if output["name"] == "probabilities")
    assert told["datatype"] == "FP64"
    np.testing.assert_allclose(np.reshape(told["data"], (3, 2)), exact(network, x), rtol=1e-13)
    url = "http://local/v1/models/wide:predict"
    rows = served.client.post(url, json={"instances": x.tolist()}, headers=headers).json()["predictions"]
    np.testing.assert_allclose([row["probabilities"] for row in rows], exact(network, x), rtol=1e-13)
    body["inputs"][0]["datatype"] = "FP32"
    refused = served.client.post("http://local/v2/models/wide/infer", json=body, headers=headers)
    assert refused.status_code == 400 and "FP64" in refused.text


def test_bytes_and_float64_exclude_each_other(tmp_path):
    path = tmp_path / "range.toml"
    path.write_text('[[victims]]\nname = "a"\nfolder = "n"\nprecision = "float64"\ndtype = "UINT8"\n')
    with pytest.raises(BadInput, match='leave out dtype = "UINT8"'):
        read_settings(path)


def test_a_folder_keeps_weights_in_float64(tmp_path, network):
    wide = Network.new(Mlp((6, 5)), (4,), ("a", "b"), seed=1)
    wide.module.double()
    with torch.no_grad():
        wide.module[1].weight += 1e-12
    folder.save(wide, tmp_path / "wide")
    again = folder.load(tmp_path / "wide").network()
    x = np.random.default_rng(2).uniform(size=(5, 4))
    assert again.predict(x).dtype == again.logits(x).dtype == np.float64
    np.testing.assert_array_equal(again.predict(x), wide.predict(x))
