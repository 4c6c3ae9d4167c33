import numpy as np
import pytest
from parts import SHAPE, configured, keys_of_new, local_server, serving

from zoo.families import FAMILIES
from zoo.network import Network


@pytest.fixture(scope="session")
def network():
    """An untrained network: what it answers does not matter, that it answers differently does."""
    network = Network.new(FAMILIES["mlp"](hidden=(32,)), SHAPE, tuple("abcde"), seed=0, device="cpu")
    for parameter in network.module.parameters():
        parameter.data *= 5
    return network


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """What servers keep, for all of them, so that the network is exported only once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def config(tmp_path, network, cache):
    """A configuration file whose victims' folder lies beside it."""
    return configured(tmp_path, network, cache)


@pytest.fixture
def rows():
    return np.random.default_rng(0).random((300, *SHAPE), np.float32)


@pytest.fixture(scope="session")
def thief():
    """Rows as JbDA sends them: seeds, then steps of one length from earlier rows."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (100, *SHAPE)).astype(np.float32) / np.float32(255)
    while len(x) < 500:
        more = x + np.float32(0.1) * rng.choice([-1, 1], x.shape).astype(np.float32)
        x = np.concatenate([x, more.clip(0, 1)])
    return x[:500]


@pytest.fixture
def local(config):
    with local_server(config) as server:
        yield server


@pytest.fixture(scope="session")
def live(tmp_path_factory, network, cache):
    """A server that runs: its URL, a function that makes accounts and returns keys, and its configuration."""
    config = configured(tmp_path_factory.mktemp("live"), network, cache)

    def key(name, plan="free"):
        return keys_of_new(config, **{name: plan})[0]

    with serving("--config", config, cwd=config.parent) as (url, _):
        yield url, key, config


@pytest.fixture(scope="session")
def reached(live):
    """The same, for tests of clients: its URL, and the function that makes accounts."""
    return live[:2]
