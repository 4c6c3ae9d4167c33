from dataclasses import replace

import numpy as np
import pytest
import torch

from wire import BadInput
from zoo.families import NETWORKS, Architecture, name_of
from zoo.families.cnn import Cnn
from zoo.families.logistic import Logistic, Softmax
from zoo.families.mlp import Mlp
from zoo.families.resnet import Resnet
from zoo.network import Network
from zoo.training import Training

SMALL: list[Architecture] = [Softmax(), Mlp(hidden=(16,)), Cnn(width=4, hidden=16), Resnet(n=1, width=4)]
NAMES = ("even", "odd", "neither")
SHAPE = (1, 8, 8)
BRIEF = Training(epochs=2, batch=16)

every_family = pytest.mark.parametrize("family", SMALL, ids=name_of)


def rows(n, shape=SHAPE, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.random((n, *shape), dtype=np.float32)
    return x, rng.integers(0, 3, n)


def trained(family, seed=0):
    x, y = rows(50)
    return Network.new(family, SHAPE, NAMES, seed=seed).fit(x, y, BRIEF, seed=seed)


def test_every_family_is_tested():
    assert {name_of(family) for family in SMALL} | {"logistic", "torchvision"} == set(NETWORKS)


def test_logistic_regression_is_the_sigmoid_of_one_weight_vector():
    network = Network.new(Logistic(), (5,), ("no", "yes"), seed=0)
    weight, bias = (tensor.numpy() for tensor in network.module.state_dict().values())
    x, _ = rows(9, (5,))
    assert weight.shape == (1, 5)
    np.testing.assert_allclose(network.predict(x)[:, 1], 1 / (1 + np.exp(-(x @ weight[0] + bias[0]))), rtol=1e-5)


def test_logistic_regression_has_two_classes():
    with pytest.raises(BadInput, match="logistic takes 2 classes, not 3; softmax takes more"):
        Network.new(Logistic(), (5,), NAMES, seed=0)


@every_family
def test_a_network_answers_with_probabilities(family):
    network = Network.new(family, SHAPE, NAMES, seed=0)
    probs = network.predict(rows(3)[0])
    assert probs.shape == (3, network.classes) == (3, 3)
    assert probs.dtype == np.float32
    np.testing.assert_allclose(probs.sum(1), 1, atol=1e-6)


@every_family
def test_the_same_seed_trains_the_same_weights(family):
    x, _ = rows(20, seed=1)
    first = trained(family).predict(x)
    np.testing.assert_array_equal(trained(family).predict(x), first)
    assert not np.array_equal(trained(family, seed=1).predict(x), first)


@every_family
def test_the_first_weights_have_a_seed_of_their_own(family):
    x, _ = rows(5)
    first, again, other = (Network.new(family, SHAPE, NAMES, seed=seed).predict(x) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_order_of_the_rows_has_a_seed_of_its_own():
    x, y = rows(50)
    one, other = (Network.new(Cnn(), SHAPE, NAMES, seed=0).fit(x, y, BRIEF, seed=seed) for seed in (0, 1))
    assert not np.array_equal(one.predict(x), other.predict(x))


@every_family
def test_training_leaves_the_global_generators_alone(family):
    state = torch.get_rng_state()
    numbers = np.random.get_state()[1]  # noqa: NPY002
    trained(family)
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(np.random.get_state()[1], numbers)  # noqa: NPY002


@every_family
def test_an_answer_does_not_depend_on_the_rows_beside_it(family):
    network = Network.new(family, SHAPE, NAMES, seed=0)
    x, _ = rows(70, seed=1)
    together = network.predict(x)
    alone = np.concatenate([network.predict(x[i : i + 1]) for i in range(len(x))])
    np.testing.assert_array_equal(alone, together)
    np.testing.assert_array_equal(network.predict(x[::-1]), together[::-1])


@pytest.mark.parametrize("width", [4, 7, 30])
@pytest.mark.parametrize("family", [Softmax(), Mlp(hidden=(10, 7))], ids=name_of)
def test_an_answer_about_a_table_does_not_depend_on_them_either(family, width):
    x, _ = rows(64, (width,))
    network = Network.new(family, (width,), NAMES, seed=0)
    together = network.predict(x)
    for n in range(1, 41):
        np.testing.assert_array_equal(network.predict(x[5 : 5 + n]), together[5 : 5 + n])


@pytest.mark.parametrize("of", ["logit", "log_probability", "margin"])
@every_family
def test_gradients_are_those_of_finite_differences(family, of):
    network = Network.new(family, SHAPE, NAMES, seed=0)
    x, y = rows(40, seed=1)  # more than one pass
    gradient = network.gradient(x, y, of)
    assert gradient.shape == x.shape
    assert gradient.dtype == np.float32

    network.module.double()  # so that a short step can be told from rounding
    step = 1e-6 * np.random.default_rng(2).choice([-1.0, 1.0], x.shape)
    with torch.inference_mode():
        after, before = (network.module(torch.from_numpy(x + s)) for s in (step, -step))
        if of == "log_probability":
            after, before = after.log_softmax(1), before.log_softmax(1)
        elif of == "margin":
            after, before = (logits - logits.amax(1, keepdim=True) for logits in (after, before))
    slope = (after - before).numpy()[np.arange(len(x)), y] / 2
    np.testing.assert_allclose((gradient * step).sum((1, 2, 3)), slope, rtol=1e-3, atol=1e-11)


@every_family
def test_hard_labels_train_as_certain_soft_ones(family):
    x, y = rows(50)
    soft = np.eye(3, dtype=np.float32)[y]
    hard_one, soft_one = (Network.new(family, SHAPE, NAMES, seed=0).fit(x, t, BRIEF, seed=0) for t in (y, soft))
    np.testing.assert_allclose(soft_one.predict(x), hard_one.predict(x), atol=1e-4)


def test_soft_labels_are_learnt_as_they_are():
    x = np.zeros((64, 4), np.float32)
    told = np.tile(np.array([0.7, 0.2, 0.1], np.float32), (64, 1))
    network = Network.new(Softmax(), (4,), NAMES, seed=0).fit(
        x, told, Training(epochs=200, batch=64, lr=0.1), seed=0
    )
    np.testing.assert_allclose(network.predict(x[:1])[0], told[0], atol=0.01)


def test_rows_and_labels_may_be_read_only():
    x, y = rows(5)
    x.flags.writeable = y.flags.writeable = False
    network = Network.new(Softmax(), SHAPE, NAMES, seed=0).fit(x, y, BRIEF, seed=0)
    assert network.predict(x).shape == (5, 3)
    assert network.gradient(x, y).shape == x.shape


@pytest.mark.parametrize("family", [Cnn(width=4), Resnet(n=1, width=4)], ids=name_of)
def test_a_last_batch_of_one_row_is_trained_on(family):
    x, y = rows(17)
    network = Network.new(family, SHAPE, NAMES, seed=0).fit(x, y, BRIEF, seed=0)
    assert np.isfinite(network.predict(x)).all()


def test_no_rows_train_nothing():
    with pytest.raises(BadInput, match="no rows to train on"):
        Network.new(Softmax(), SHAPE, NAMES, seed=0).fit(*rows(0), BRIEF, seed=0)


def test_no_rows_get_no_answers():
    network = Network.new(Cnn(), SHAPE, NAMES, seed=0)
    x, y = rows(0)
    assert network.predict(x).shape == (0, 3)
    assert network.gradient(x, y).shape == (0, *SHAPE)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 8), (1, 28, 28), (3, 32, 32)])
@pytest.mark.parametrize("family", [Cnn(width=4), Resnet(n=1, width=4)], ids=name_of)
def test_images_of_these_sizes_are_taken(family, shape):
    x, y = rows(5, shape)
    network = Network.new(family, shape, NAMES, seed=0).fit(x, y, Training(epochs=1, batch=4), seed=0)
    assert network.gradient(x, y).shape == x.shape


@pytest.mark.parametrize("family", [Softmax(), Mlp()], ids=name_of)
def test_tables_are_taken(family):
    x, y = rows(5, (7,))
    assert Network.new(family, (7,), NAMES, seed=0).fit(x, y, BRIEF, seed=0).predict(x).shape == (5, 3)


@pytest.mark.parametrize("family", [Cnn(), Resnet()], ids=name_of)
@pytest.mark.parametrize("shape", [(7,), (1, 7, 9)])
def test_rows_that_are_no_images_are_refused(family, shape):
    with pytest.raises(BadInput, match="takes images"):
        Network.new(family, shape, NAMES, seed=0)


def test_the_resnet_has_the_depth_of_its_formula():
    module = Resnet(n=3).module((3, 32, 32), 10)
    layers = [layer for layer in module.modules() if isinstance(layer, (torch.nn.Conv2d, torch.nn.Linear))]
    assert len(layers) == 6 * 3 + 2
    assert sum(p.numel() for p in module.parameters()) == pytest.approx(0.27e6, rel=0.01)  # the paper's table 6


def test_the_stages_of_the_resnet_halve_the_image_and_double_the_channels():
    module = Resnet(n=1).module((3, 32, 32), 10)
    stages = [layer for layer in module if hasattr(layer, "conv1")]
    x, sizes = torch.zeros(1, 16, 32, 32), []
    for stage in stages:
        x = stage(x)
        sizes.append(tuple(x.shape[1:]))
    assert sizes == [(16, 32, 32), (32, 16, 16), (64, 8, 8)]


def test_digits_are_learnt():
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    names = tuple("0123456789")
    network = Network.new(Cnn(), SHAPE, names, seed=0).fit(x[:1000], y[:1000], Training(epochs=5), seed=0)
    assert (network.predict(x[1000:]).argmax(1) == y[1000:]).mean() > 0.9


@pytest.mark.parametrize("schedule", ["constant", "one_cycle", "step"])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_every_schedule_lowers_the_loss(optimizer, schedule):
    x, y = rows(64, (20,))
    training = Training(epochs=20, batch=16, lr=0.05, optimizer=optimizer, schedule=schedule)
    network = Network.new(Softmax(), (20,), NAMES, seed=0)
    before = network.predict(x)[np.arange(64), y]
    after = network.fit(x, y, training, seed=0).predict(x)[np.arange(64), y]
    assert -np.log(after).mean() < -np.log(before).mean() - 0.1


@pytest.mark.parametrize("changed", [{"epochs": -1}, {"batch": 0}, {"lr": 0.0}, {"lr": float("nan")}])
def test_training_without_sense_is_refused(changed):
    with pytest.raises(BadInput, match="must be"):
        Training(**changed)


@pytest.mark.parametrize("device", ["abacus", "cuda:99", "meta"])
def test_a_device_that_is_not_there_is_refused(device):
    with pytest.raises(BadInput, match="device"):
        Network.new(Softmax(), SHAPE, NAMES, seed=0, device=device)


def test_rows_and_labels_of_another_shape_are_refused():
    network = Network.new(Softmax(), SHAPE, NAMES, seed=0)
    x, y = rows(5)
    with pytest.raises(ValueError, match="rows must be"):
        network.predict(x[:, 0])
    for labels in (y[:4], np.ones((5, 2), np.float32)):
        with pytest.raises(ValueError, match="labels must be"):
            network.fit(x, labels, BRIEF, seed=0)


@pytest.mark.parametrize("family", [Softmax(), Resnet(n=1, width=2)], ids=name_of)  # without and with buffers
def test_checkpoints_are_what_the_network_was_on_its_way_and_change_nothing(family):
    x, y = rows(16)
    kept = Training(epochs=20, batch=16, schedule="constant", checkpoints=11)

    def after(epochs, checkpoints=0):
        training = replace(kept, epochs=epochs, checkpoints=checkpoints)
        return Network.new(family, SHAPE, NAMES, seed=0).fit(x, y, training, seed=0)

    network = after(20, 11)
    assert kept.kept_after(16) == [1, 2, 4, 6, 8, 10, 12, 14, 16, 18]
    np.testing.assert_array_equal(network.predict(x), after(20).predict(x))
    earlier = network.earlier().predict(x)
    for number, epochs in ((0, 1), (1, 2), (9, 18)):
        np.testing.assert_allclose(earlier[:, :, number], after(epochs).predict(x), atol=1e-6)


def test_the_first_checkpoint_comes_after_a_hundredth_of_the_steps():
    assert Training(epochs=100, batch=10, checkpoints=11).kept_after(10) == [1, *range(10, 100, 10)]  # the paper's
    assert Training(epochs=8, batch=64, checkpoints=11).kept_after(20_000)[:3] == [26, 251, 501]
    assert Training().kept_after(100) == []
    with pytest.raises(BadInput, match="11 checkpoints need at least as many steps, not 10"):
        Network.new(Softmax(), SHAPE, NAMES, seed=0).fit(*rows(20), Training(2, 4, checkpoints=11), seed=0)
    with pytest.raises(BadInput, match="0, or between 2 and 50"):
        Training(checkpoints=1)
