"""Thefts of encoders: the losses, the map between accounts, and what a surrogate learns."""

import numpy as np
import pytest
import torch

from attacker.asking import NothingAnswered
from attacker.extraction.encoder import Encoder, contrastive, mapped
from attacker.transports.disguised import averaged
from wire import Answer, BadInput, Oracle
from zoo.families import encoder


@pytest.fixture(scope="module")
def victim(digits):
    made = encoder.Encoder(4, 12).untrained(digits.card(), seed=3, device="cpu")
    made.fit(digits.x[:200], digits.x[:200, 0, 2:4, 1:7].reshape(200, 12), _training(2), seed=0, loss=_squares)
    return made


def _training(epochs):
    from zoo.training import Training

    return Training(epochs, batch=32)


def _squares(outputs, wanted):
    return ((outputs - wanted) ** 2).mean()


def cosine(a, b):
    return float(((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).mean())


def oracle_of(model, budget=None, turned=None):
    def ask(x):
        told = model.predict(x)
        return Answer.of_embeddings(told if turned is None else told @ turned)

    return Oracle(ask, model.card(), budget)


def test_the_contrastive_loss_is_cont_steal_s():
    s, t, by = torch.eye(3)[:, [1, 2, 0]] * 5, torch.eye(3), 0.5
    expected = []
    for i in range(3):
        a, b = torch.nn.functional.normalize(s), t
        away = sum(torch.exp(a[i] @ b[j] / by) for j in range(3) if j != i)
        away += sum(torch.exp(a[i] @ a[j] / by) for j in range(3) if j != i)
        near = torch.exp(a[i] @ b[i] / by)
        expected.append(-torch.log(near / (near + away)))
    assert float(contrastive(s, t, by)) == pytest.approx(float(torch.stack(expected).mean()), rel=1e-5)
    assert contrastive(t, t, by) < contrastive(s, t, by)


def test_another_account_s_space_is_mapped_back():
    rng = np.random.default_rng(0)
    e, turn = rng.normal(size=(60, 8)), np.linalg.qr(rng.normal(size=(8, 8)))[0]
    np.testing.assert_allclose(mapped((e @ turn)[:20], e[:20], e @ turn), e, atol=1e-8)


@pytest.mark.parametrize("loss", ["mse", "contrastive"])
def test_a_surrogate_learns_embeddings(digits, victim, loss):
    theft = Encoder(rows=600, loss=loss, width=8, epochs=15, shift=0, flip=False)
    spent = oracle_of(victim, 600)
    stolen = theft.extract(spent, digits, np.random.default_rng(0))
    blank = encoder.Encoder(8, 12).untrained(victim.card(), seed=0)
    x = digits.x[1200:]
    assert spent.spent == 600
    assert cosine(stolen.predict(x), victim.predict(x)) > 0.75 > 0.3 > cosine(blank.predict(x), victim.predict(x))


def test_two_accounts_share_a_theft(digits, victim):
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(12, 12)))[0].astype(np.float32)
    oracles = [oracle_of(victim), oracle_of(victim, turned=turn)]
    x, told = Encoder(rows=400).asked(oracles, digits.x, np.random.default_rng(0))
    assert len(x) == len(told) == 400 and oracles[0].spent + oracles[1].spent == 440  # 40 rows twice
    np.testing.assert_allclose(told, victim.predict(x), atol=1e-4)
    with pytest.raises(NothingAnswered, match="too few rows were answered"):
        Encoder(rows=400).asked([oracle_of(victim), oracle_of(victim, 20)], digits.x, np.random.default_rng(0))
    with pytest.raises(BadInput, match="at least 2 rows"):
        Encoder(rows=1)


def test_copies_of_embeddings_are_averaged():
    one, other = Answer.of_embeddings(np.float32([[1, 2], [3, 4]])), Answer.of_embeddings(np.float32([[3, 4]]))
    np.testing.assert_array_equal(averaged([one, other]).embeddings, np.float32([[2, 3], [3, 4]]))
