import hashlib
import json

import numpy as np
import pytest
from safetensors.torch import save as write_weights

from wire import BadInput, Card
from zoo import folder
from zoo.families.logistic import Softmax
from zoo.families.mlp import Mlp
from zoo.folder import CARD, CHECKPOINTS, WEIGHTS, read_card
from zoo.network import Network
from zoo.training import Training


@pytest.fixture
def saved(tmp_path):
    """Returns a small network and the folder that holds it."""
    network = Network.new(Softmax(), (4,), ("a", "b"), seed=0)
    folder.save(network, tmp_path / "model", note="a test")
    return network, tmp_path / "model"


def test_the_range_of_features_and_the_training_come_back(tmp_path):
    card = Card("", (4,), 2, low=-1.0, high=None, class_names=("a", "b"))
    network = Network.untrained(Softmax(), card, seed=0)
    network.training = Training(epochs=1)
    folder.save(network, tmp_path / "new" / "model")
    loaded = folder.load(tmp_path / "new" / "model")
    assert (loaded.card(), loaded.training) == (card, Training(epochs=1))


def test_the_card_tells_what_is_free_to_tell(saved):
    card = read_card(saved[1])
    assert card.about == {"note": "a test"}
    assert card.family == "softmax"
    assert sorted(path.name for path in saved[1].iterdir()) == [CARD, WEIGHTS]


def test_saving_again_replaces(saved):
    other = Network.new(Mlp(hidden=(3,)), (4,), ("a", "b"), seed=1)
    folder.save(other, saved[1])
    x = np.random.default_rng(0).random((5, 4), dtype=np.float32)
    np.testing.assert_array_equal(folder.load(saved[1]).predict(x), other.predict(x))


@pytest.mark.parametrize("name", [CARD, WEIGHTS])
def test_a_missing_file_is_named(saved, name):
    (saved[1] / name).unlink()
    with pytest.raises(BadInput, match=rf"{name}: No such file"):
        folder.load(saved[1])


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(BadInput, match=r"nowhere/card\.json: No such file"):
        folder.load(tmp_path / "nowhere")


def test_a_card_that_is_no_json_is_named(saved):
    (saved[1] / CARD).write_text("{")
    with pytest.raises(BadInput, match=r"card\.json: Invalid JSON"):
        folder.load(saved[1])


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"family": "oak"}, "\"family\" is 'oak'; expected one of softmax, logistic, mlp, cnn, resnet"),
        ({"family": "cnn"}, "\"fields\" must have ['hidden', 'width'], not []"),
        ({"family": "mlp", "fields": {"hidden": "wide"}}, '"hidden": Input should be a valid tuple'),
        ({"family": "mlp", "fields": {"hidden": [0]}}, "hidden layers must be at least 1 wide, not (0,)"),
        ({"family": "cnn", "fields": {"hidden": 8, "width": 4}}, "a cnn takes images"),
        ({"fields": None}, '"fields": Input should be an object'),
        ({"input_shape": [0]}, '"input_shape.0": Input should be greater than or equal to 1'),
        ({"input_shape": "4"}, '"input_shape": Input should be a valid'),
        ({"class_names": ["only"]}, "at least 2 classes, not 1"),
        ({"sha256": None}, '"sha256": Input should be a valid string'),
        ({"training": {"epochs": -1}}, "epochs must be at least 0"),
        ({"extra": 1}, '"extra": Extra inputs are not permitted'),
    ],
)
def test_a_broken_card_is_named(saved, changes, fault):
    path = saved[1] / CARD
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(BadInput) as error:
        folder.load(saved[1])
    assert str(path) in str(error.value)
    assert fault in str(error.value)


def test_a_card_that_lacks_a_member_is_named(saved):
    path = saved[1] / CARD
    card = json.loads(path.read_text())
    del card["class_names"]
    path.write_text(json.dumps(card))
    with pytest.raises(BadInput, match=r'card\.json: "class_names": Field required'):
        folder.load(saved[1])


def test_weights_of_another_hash_are_refused(saved):
    path = saved[1] / WEIGHTS
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(
        BadInput, match=r"weights\.safetensors: the file's SHA-256 is \w{64}, but the card has \w{64}"
    ):
        folder.load(saved[1])


def _replace_weights(path, content):
    """Writes other weights, whose hash the card tells rightly."""
    (path / WEIGHTS).write_bytes(content)
    card = json.loads((path / CARD).read_text()) | {"sha256": hashlib.sha256(content).hexdigest()}
    (path / CARD).write_text(json.dumps(card))


@pytest.fixture
def watched(tmp_path):
    """Returns a network that kept its checkpoints and the folder that holds it."""
    x, y = np.random.default_rng(0).random((20, 4), dtype=np.float32), np.arange(20) % 2
    network = Network.new(Mlp(hidden=(3,)), (4,), ("a", "b"), seed=0)
    network.fit(x, y, Training(epochs=20, batch=20, checkpoints=11), seed=0)
    folder.save(network, tmp_path / "watched")
    return network, tmp_path / "watched", x


def test_checkpoints_come_back_and_go_with_a_network_that_has_none(watched):
    network, path, x = watched
    loaded = folder.load(path)
    np.testing.assert_array_equal(loaded.earlier().predict(x), network.earlier().predict(x))
    folder.save(loaded, path)
    assert len(folder.load(path).checkpoints) == 10
    folder.save(Network.new(Softmax(), (4,), ("a", "b"), seed=0), path)
    assert sorted(file.name for file in path.iterdir()) == [CARD, WEIGHTS]
    with pytest.raises(BadInput, match="the network has no checkpoints"):
        folder.load(path).earlier()


def test_broken_checkpoints_are_named(watched):
    network, path, _ = watched
    file = path / CHECKPOINTS
    content = file.read_bytes()
    file.write_bytes(content[:-1] + b"!")
    with pytest.raises(
        BadInput, match=r"checkpoints\.safetensors: the file's SHA-256 is \w{64}, but the card has"
    ):
        folder.load(path)
    file.unlink()
    with pytest.raises(BadInput, match=r"checkpoints\.safetensors: No such file"):
        folder.load(path)
    network.checkpoints = network.checkpoints[:2]
    del network.checkpoints[1]["1.weight"]
    folder.save(network, path)
    with pytest.raises(BadInput, match=r"checkpoints\.safetensors: missing tensors: \['1.weight'\]"):
        folder.load(path)


def test_weights_that_are_no_safetensors_are_refused(saved):
    _replace_weights(saved[1], b"\x80\x04N.")  # a pickle
    with pytest.raises(BadInput, match=r"weights\.safetensors: not a safetensors file"):
        folder.load(saved[1])


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda w: {"1.bias": w["1.bias"]}, r"missing tensors: \['1.weight'\]"),
        (lambda w: w | {"2.bias": w["1.bias"].clone()}, r"family: \['2.bias'\]"),
        (
            lambda w: w | {"1.bias": w["1.bias"][:1].clone()},
            r"tensor 1.bias is \(1,\) torch.float32, .* takes \(2,\)",
        ),
        (lambda w: w | {"1.bias": w["1.bias"].double()}, r"tensor 1.bias is \(2,\) torch.float64"),
        (lambda w: w | {"1.bias": w["1.bias"] / 0}, r"tensor 1.bias is not finite"),
    ],
)
def test_weights_of_another_network_are_refused(saved, change, fault):
    network, path = saved
    _replace_weights(path, write_weights(change(dict(network.module.state_dict()))))
    with pytest.raises(BadInput, match=rf"weights\.safetensors: .*{fault}"):
        folder.load(path)
