import numpy as np
import pytest
from parts import SHAPE, Local, configured

from wire.local import local_client
from zoo.families import FAMILIES
from zoo.network import Network


@pytest.fixture(scope="session")
def network():
    """An untrained network: what it answers does not matter, that it answers differently does."""
    network = Network.new(FAMILIES["mlp"](hidden=(32,)), SHAPE, tuple("abcde"), seed=0, device="cpu")
    for parameter in network.module.parameters():
        parameter.data *= 5
    return network


@pytest.fixture
def config(tmp_path, network):
    """A configuration file whose victims' folder lies beside it."""
    return configured(tmp_path, network)


@pytest.fixture
def rows():
    return np.random.default_rng(0).random((300, *SHAPE), np.float32)


@pytest.fixture
def local(config):
    server = Local(config)
    with local_client(server.app) as client:
        server.client = client
        yield server
