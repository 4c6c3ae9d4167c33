"""Trainings that protect the rows: early stopping, and DP-SGD with its accountant."""

import math

import numpy as np
import pytest
import torch

from wire import BadInput
from zoo.families.logistic import Softmax
from zoo.families.mlp import Mlp
from zoo.network import Network
from zoo.training import Training

RNG = np.random.default_rng
ROWS, LABELS = RNG(0).random((200, 6), dtype=np.float32), RNG(1).integers(3, size=200)


def fitted(training, x=ROWS, y=LABELS):
    return Network.new(Mlp((64,)), (6,), ("a", "b", "c"), seed=0).fit(x, y, training, seed=0)


def right(network):
    return (network.predict(ROWS).argmax(axis=1) == LABELS).mean()


def test_early_stopping_keeps_noise_from_being_learnt():
    long = Training(200, batch=16, lr=0.02)
    stopped = Training(200, batch=16, lr=0.02, held_out=0.2, patience=3)
    assert right(fitted(long)) > 0.8 > right(fitted(stopped))


def test_dp_sgd_learns_and_repeats_itself():
    pytest.importorskip("opacus")
    y = (ROWS[:, 0] > 0.5).astype(np.int64)
    training = Training(40, batch=50, lr=0.05, noise=0.5)
    networks = [fitted(training, y=y) for _ in range(2)]
    assert (networks[0].predict(ROWS).argmax(axis=1) == y).mean() > 0.85
    assert all(np.array_equal(*pair) for pair in zip(*(n.tensors().values() for n in networks), strict=True))
    assert not any(hasattr(weights, "grad_sample") for weights in networks[0].module.parameters())


def test_rows_may_be_changed_by_a_gradient_of_the_network_before_each_step():
    pytest.importorskip("opacus")
    y = (ROWS[:, 0] > 0.5).astype(np.int64)
    training, seen = Training(20, batch=50, lr=0.05, noise=0.5), []
    network = Network.new(Mlp((64,)), (6,), ("a", "b", "c"), seed=0)

    def nudged(x, order):
        x = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(network.module(x).logsumexp(1).sum(), x)
        seen.append(len(x))
        return (x + 1e-3 * gradient.sign()).detach()

    network.fit(ROWS, y, training, seed=0, augment=nudged)
    assert len(seen) == training.steps(len(ROWS)) and (network.predict(ROWS).argmax(axis=1) == y).mean() > 0.85


def test_one_row_moves_the_weights_by_its_clipped_gradient_at_most():
    """Without momentum, and all but without noise, a step is lr * clip / batch for one row."""
    pytest.importorskip("opacus")
    training = Training(
        1, batch=200, lr=1.0, optimizer="sgd", momentum=0, schedule="constant", noise=1e-9, clip=0.1
    )
    other = ROWS.copy()
    other[7] += 100
    one, two = (fitted(training, x).tensors() for x in (ROWS, other))
    distance = math.sqrt(sum(float((one[name] - two[name]).square().sum()) for name in one))
    assert 0 < distance <= 2 * 0.1 / 200 + 1e-6


@pytest.mark.parametrize("clip", [0.1, 100.0])
@pytest.mark.parametrize("family", [Mlp((16, 8)), Softmax()])
def test_a_step_goes_along_the_sum_of_the_rows_clipped_gradients(family, clip):
    pytest.importorskip("opacus")
    network = Network.new(family, (6,), ("a", "b", "c"), seed=0)
    rows, y = 10 * ROWS[:30], torch.from_numpy(LABELS[:30])
    before = [weights.detach().clone() for weights in network.module.parameters()]
    wanted, clipped = [torch.zeros_like(weights) for weights in before], 0
    for row, label in zip(torch.from_numpy(rows), y, strict=True):
        loss = torch.nn.functional.cross_entropy(network.module(row[None]), label[None])
        gradients = torch.autograd.grad(loss, [*network.module.parameters()])
        norm = math.sqrt(sum(float(part.square().sum()) for part in gradients))
        clipped += norm > clip
        for total, part in zip(wanted, gradients, strict=True):
            total += part * min(1.0, clip / norm) / 30
    once = Training(1, batch=30, lr=1.0, optimizer="sgd", momentum=0, schedule="constant", noise=1e-9, clip=clip)
    network.fit(rows, y.numpy(), once, seed=0)
    assert (clipped > 0) == (clip < 1)
    for start, weights, total in zip(before, network.module.parameters(), wanted, strict=True):
        assert torch.allclose(start - weights, total, rtol=1e-3, atol=1e-5)


def test_epsilon_falls_with_noise_and_rises_with_steps():
    pytest.importorskip("opacus")
    from zoo.private import epsilon

    assert epsilon(Training(), 1000, 1e-4) == math.inf
    some, more, longer = (
        epsilon(Training(epochs, noise=noise), 1000, 1e-4) for epochs, noise in ((5, 1.0), (5, 2.0), (20, 1.0))
    )
    assert 0 < more < some < longer


def test_what_cannot_be_private_is_refused():
    with pytest.raises(BadInput, match="holds out no rows"):
        Training(noise=1.0, held_out=0.1)
    with pytest.raises(BadInput, match="held_out must lie"):
        Training(held_out=1.0)
    pytest.importorskip("opacus")
    from zoo.families.resnet import Resnet

    x = torch.zeros(8, 3, 32, 32).numpy()
    network = Network.new(Resnet(), (3, 32, 32), ("a", "b"), seed=0)
    with pytest.raises(BadInput, match="cannot be trained privately"):
        network.fit(x, np.zeros(8, np.int64), Training(1, noise=1.0), seed=0)
