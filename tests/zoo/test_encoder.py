"""Encoders: what their cards and folders say, and what refuses them."""

import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.datasets import load_digits

from cli.models import evaluate
from wire import Answer, BadInput
from zoo import folder
from zoo.data.pool import Pool
from zoo.families.encoder import Encoder
from zoo.training import Training


@pytest.fixture(scope="module")
def pool():
    x, y = load_digits(return_X_y=True)
    return Pool((x / 16).astype(np.float32).reshape(-1, 1, 8, 8), y.astype(np.int64), tuple("0123456789"))


@pytest.fixture(scope="module")
def encoder(pool):
    return Encoder(4, 12).train(pool.take(slice(600)), Training(epochs=6, batch=32), 0, device="cpu", label="test")


def test_embeddings_have_the_card_s_length_and_no_classes(pool, encoder):
    card = encoder.card()
    assert (card.embedding, card.classes, card.class_names, card.tells_probs) == (12, 0, (), False)
    told = encoder.predict(pool.x[600:1000])
    assert told.shape == (400, 12) and told.dtype == np.float32
    assert abs(told.mean()) < 0.2 and 0.7 < told.std() < 1.3 and told.min() < 0  # no softmax
    near = [np.linalg.norm(told - one, axis=1).argsort()[1] for one in told]
    y = pool.y[600:1000]
    assert (y[near] == y).mean() > 0.7  # ten classes: it has learnt what tells them apart
    alone = np.concatenate([encoder.predict(pool.x[600 + i : 601 + i]) for i in range(40)])
    np.testing.assert_array_equal(alone, told[:40])  # nor does an embedding depend on the rows beside its own
    blank = Encoder(4, 12).untrained(pool.card(), seed=0).predict(pool.x[600:1000])
    assert not np.allclose(blank, told)


def test_an_encoder_s_folder(tmp_path, pool, encoder):
    folder.save(encoder, tmp_path)
    again = folder.load(tmp_path, "cpu")
    assert again.card() == encoder.card()
    np.testing.assert_array_equal(again.predict(pool.x[:50]), encoder.predict(pool.x[:50]))
    card = json.loads((tmp_path / "card.json").read_text())
    for change, fault in (
        ({"embedding": 0}, "at least 2 classes"),
        ({"embedding": 13}, "12 numbers cannot have a card of 13"),
        ({"class_names": ["a", "b"]}, "an encoder has no classes"),
    ):
        (tmp_path / "card.json").write_text(json.dumps({**card, **change}))
        with pytest.raises(BadInput, match=fault):
            folder.load(tmp_path, "cpu")
    (tmp_path / "card.json").write_text(json.dumps(card))
    pool.save(tmp_path / "rows.npz")
    arguments = type("Arguments", (), {"model": tmp_path, "rows": tmp_path / "rows.npz", "device": "cpu"})
    with pytest.raises(BadInput, match="no classes, and so no accuracy"):
        evaluate(arguments)


def test_an_encoder_keeps_no_checkpoints(pool):
    with pytest.raises(BadInput, match="checkpoints = 0"):
        Encoder().train(pool, Training(checkpoints=3), 0, device="cpu", label="test")
    with pytest.raises(BadInput, match="numbers at least 2"):
        Encoder(numbers=1)
    with pytest.raises(BadInput, match="at least 8 by 8"):
        Encoder().untrained(replace(pool.card(), input_shape=(4,)), seed=0)


def test_answers_of_embeddings_are_joined_and_cut():
    one = Answer.of_embeddings(np.arange(6, dtype=np.float64).reshape(3, 2))
    joined = Answer.join([one[1:], one[:1]])
    np.testing.assert_array_equal(joined.embeddings, np.float32([[2, 3], [4, 5], [0, 1]]))
    assert joined.probs is None and joined.labels.tolist() == [0, 0, 0]
