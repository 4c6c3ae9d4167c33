from __future__ import annotations

import numpy as np
import pytest
import torch

from wire import BadInput
from zoo.augment import Augment
from zoo.early_stopping import EarlyStopping
from zoo.families.logistic import Softmax
from zoo.network import Network
from zoo.training import Training

RNG = np.random.default_rng(0)


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_an_image_is_shifted_as_a_whole_and_zeros_are_moved_in() -> None:
    x = torch.from_numpy(RNG.random((50, 2, 6, 5), np.float32))
    found = Augment(shift=2)(x, draws())
    assert found.shape == x.shape
    padded = torch.nn.functional.pad(x, [2] * 4)
    at = [
        [(i, j) for i in range(5) for j in range(5) if torch.equal(image, wide[:, i : i + 6, j : j + 5])]
        for image, wide in zip(found, padded, strict=True)
    ]
    assert all(len(places) == 1 for places in at)
    assert len({places[0] for places in at}) > 10


def test_some_images_are_flipped() -> None:
    x = torch.from_numpy(RNG.random((50, 1, 4, 4), np.float32))
    found = Augment(flip=True)(x, draws())
    flipped = [torch.equal(one, other.flip(2)) for one, other in zip(found, x, strict=True)]
    same = [torch.equal(one, other) for one, other in zip(found, x, strict=True)]
    assert 10 < sum(flipped) < 40 and sum(flipped) + sum(same) == 50


def test_rows_of_a_table_are_not_shifted() -> None:
    assert Augment()(torch.zeros(2, 3), draws()).shape == (2, 3)
    with pytest.raises(BadInput, match="not images"):
        Augment(shift=1)(torch.zeros(2, 3), draws())
    with pytest.raises(BadInput, match="at least 0"):
        Augment(shift=-1)


def test_training_ends_with_the_weights_that_fit_held_out_rows_best() -> None:
    x = RNG.random((60, 20), np.float32)
    y = (x[:, 0] > 0.5).astype(np.int64)
    y[:20] = RNG.integers(2, size=20)  # noise to overfit
    network = Network.new(Softmax(), (20,), ("no", "yes"), seed=0)
    held_out = (RNG.random((200, 20), np.float32), np.zeros(200, np.int64))
    held_out = (held_out[0], (held_out[0][:, 0] > 0.5).astype(np.int64))
    training = Training(epochs=2000, lr=0.05, schedule="constant")
    network.fit(x, y, training, seed=0, held_out=held_out, patience=20)
    stopped = loss(network, *held_out)
    network.fit(x, y, training, seed=0)
    assert stopped < loss(network, *held_out) - 0.05


def test_patience_counts_epochs_without_an_improvement() -> None:
    module = torch.nn.Linear(1, 2)
    stopping = EarlyStopping(torch.ones(3, 1), torch.zeros(3, dtype=torch.int64), patience=2)
    with torch.no_grad():
        ends = []
        for weight in (0.0, 1.0, 0.5, 0.9, 5.0):
            module.weight[0], module.weight[1], module.bias[:] = weight, 0, 0
            ends.append(stopping.after_epoch(module))
    assert ends == [False, False, False, True, False]
    stopping.restore(module)
    assert module.weight[0].item() == 5


def loss(network: Network, x: np.ndarray, y: np.ndarray) -> float:
    return float(-np.log(network.predict(x)[np.arange(len(y)), y]).mean())
