from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from fake_server import FakeServer
from memorised import ignorant, memorising, mislabelled
from sklearn.datasets import load_digits

from attacker.command import main
from cli.command import run
from zoo.data.pool import Pool
from zoo.families.mlp import Mlp
from zoo.network import Network
from zoo.training import Training


@pytest.fixture(scope="session")
def digits() -> Pool:
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    images = (x / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    return Pool(images[order], y[order].astype(np.int64), tuple("0123456789"))


@pytest.fixture(scope="session")
def victim(digits: Pool) -> Network:
    """A victim trained on rows 0 to 800 of the digits."""
    training = Training(epochs=15, batch=32, lr=3e-3)
    network = Network.new(Mlp((64,)), digits.input_shape, digits.class_names, seed=1)
    assert digits.y is not None
    return network.fit(digits.x[:800], digits.y[:800], training, seed=2)


@pytest.fixture(scope="session")
def rows(digits: Pool) -> Pool:
    """The digits, some with wrong labels, which a victim can only memorise."""
    return mislabelled(digits)


@pytest.fixture(scope="session")
def memorised(rows: Pool) -> Network:
    """A victim that memorised its rows."""
    return memorising(rows)


@pytest.fixture(scope="session")
def unseen(rows: Pool) -> Network:
    """A model that saw no candidate."""
    return ignorant(rows)


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state folder that the attacks of a file share, so that their reference models are trained once."""
    return tmp_path_factory.mktemp("state")


@pytest.fixture
def server(victim: Network) -> Iterator[FakeServer]:
    with FakeServer(victim.predict, victim.input_shape, victim.class_names) as fake:
        yield fake


@pytest.fixture
def pool_file(digits: Pool, tmp_path: Path) -> Path:
    path = tmp_path / "pool.npz"
    digits.take(slice(800, None)).save(path)
    return path


@pytest.fixture
def attack(server: FakeServer, tmp_path: Path) -> Callable[..., int]:
    """Runs the command in this process and returns its exit status."""

    def command(name: str, *options: object, budget: int = 200) -> int:
        reached = ["--url", server.url, "--model", "m", "--key", server.key]
        words = [name, *reached, "--budget", budget, "--out", tmp_path / "out", *options]
        with pytest.raises(SystemExit) as end:
            run(main, [str(word) for word in words])
        assert isinstance(end.value.code, int)
        return end.value.code

    return command
