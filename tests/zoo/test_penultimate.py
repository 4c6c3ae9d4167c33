import numpy as np
import pytest
import torch
from torch import nn

from wire import BadInput
from zoo.families import Architecture, name_of
from zoo.families.cnn import Cnn
from zoo.families.logistic import Logistic, Softmax
from zoo.families.mlp import Mlp
from zoo.families.resnet import Resnet
from zoo.network import Network
from zoo.penultimate import activation_bits, penultimate

SHAPE, NAMES = (1, 8, 8), tuple("abc")
SMALL: list[Architecture] = [Softmax(), Mlp(hidden=(16, 12)), Cnn(width=4, hidden=16), Resnet(n=1, width=4)]
X = np.random.default_rng(0).random((70, *SHAPE), np.float32)


@pytest.mark.parametrize("family", SMALL, ids=name_of)
def test_the_last_layer_makes_the_answer_of_the_penultimate_one(family):
    network = Network.new(family, SHAPE, NAMES, seed=0, device="cpu")
    activations = penultimate(network).logits(X)
    last = [module for module in network.module.modules() if isinstance(module, nn.Linear)][-1]
    with torch.inference_mode():
        logits = last(torch.from_numpy(activations)).numpy()
    np.testing.assert_allclose(logits, network.logits(X), atol=1e-5)
    np.testing.assert_allclose(
        np.exp(logits) / np.exp(logits).sum(1, keepdims=True), network.predict(X), atol=1e-5
    )

    alone = np.concatenate([penultimate(network).logits(X[i : i + 1]) for i in range(0, 70, 3)])
    np.testing.assert_array_equal(alone, activations[::3])
    limits = np.median(activations, axis=0)
    told = activation_bits(network, limits).predict(X)
    np.testing.assert_array_equal(told[:, 1] > told[:, 0], activations > limits)


def test_a_network_without_such_a_layer_is_refused():
    with pytest.raises(BadInput, match="the network ends in _Sigmoid"):
        penultimate(Network.new(Logistic(), (4,), NAMES[:2], seed=0, device="cpu"))
    network = Network.new(Mlp(), (4,), NAMES, seed=0, device="cpu")
    network.module.to(torch.bfloat16)
    with pytest.raises(BadInput, match="a linear layer in float32"):
        penultimate(network)
