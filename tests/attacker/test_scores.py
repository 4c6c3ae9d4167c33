from __future__ import annotations

import numpy as np
import pytest
from reached import reach
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from attacker.asking import NotApplicable
from attacker.membership.confidence import Confidence
from attacker.membership.gap import Gap
from zoo.data.pool import Pool
from zoo.families.mlp import Mlp
from zoo.network import Network
from zoo.training import Training

RNG = np.random.default_rng


ROWS = np.array([[0.7, 0.2, 0.1], [0.3, 0.6, 0.1], [0.5, 0.1, 0.4], [0.2, 0.3, 0.5]], np.float32)
TRUE = np.array([0, 0, 2, 2])
NOBODY = Pool(ROWS[:0], TRUE[:0])


def test_the_confidence_is_the_odds_of_the_true_label() -> None:
    oracle, record = reach(lambda x: x, shape=(3,), classes=3)
    scores = Confidence().infer(oracle, ROWS, TRUE, NOBODY, RNG(0))
    assert expit(scores) == pytest.approx([0.7, 0.3, 0.4, 0.5])
    assert len(record.rows) == 4


def test_a_withheld_confidence_is_an_equal_share_of_the_rest() -> None:
    oracle, _ = reach(lambda x: x, shape=(3,), classes=3, top_k=1)
    scores = Confidence().infer(oracle, ROWS, TRUE, NOBODY, RNG(0))
    assert expit(scores) == pytest.approx([0.7, 0.2, 0.25, 0.5])


def test_confidence_does_not_apply_to_labels_alone_and_asks_nothing() -> None:
    oracle, record = reach(lambda x: x, shape=(3,), classes=3, tells_probs=False)
    with pytest.raises(NotApplicable, match="labels only"):
        Confidence().infer(oracle, ROWS, TRUE, NOBODY, RNG(0))
    assert oracle.spent == 0
    assert not record.batches


def test_the_gap_attack_looks_at_labels_alone() -> None:
    oracle, _ = reach(lambda x: x, shape=(3,), classes=3, tells_probs=False)
    assert Gap().infer(oracle, ROWS, TRUE, NOBODY, RNG(0)).tolist() == [1, 0, 0, 1]


def test_the_gap_attack_is_half_plus_half_the_gap_in_accuracy(digits: Pool) -> None:
    assert digits.y is not None
    members, others = digits.take(slice(0, 100)), digits.take(slice(100, 1100))
    assert members.y is not None and others.y is not None
    model = Network.new(Mlp((32,)), digits.input_shape, digits.class_names, seed=0)
    model.fit(members.x, members.y, Training(epochs=60, batch=16, lr=3e-3), seed=0)
    x, y = np.concatenate([members.x, others.x]), np.concatenate([members.y, others.y])
    oracle, _ = reach(model.predict, max_rows=256)
    member = Gap().infer(oracle, x, y, NOBODY, RNG(0))
    balanced = (member[:100].mean() + (1 - member[100:]).mean()) / 2
    train = (model.predict(members.x).argmax(axis=1) == members.y).mean()
    test = (model.predict(others.x).argmax(axis=1) == others.y).mean()
    assert train > test + 0.05
    assert balanced == pytest.approx(1 / 2 + (train - test) / 2)
    confidence = Confidence().infer(reach(model.predict, max_rows=256)[0], x, y, NOBODY, RNG(0))
    assert roc_auc_score(np.arange(1100) < 100, confidence) > 0.6


@pytest.mark.parametrize("attack", [Confidence(), Gap()])
def test_an_early_end_leaves_nan_for_a_random_part(attack: Confidence | Gap) -> None:
    rows = np.tile(ROWS, (25, 1))
    true = np.tile(TRUE, 25)
    whole = attack.infer(reach(lambda x: x, shape=(3,), classes=3)[0], rows, true, NOBODY, RNG(0))
    scores = []
    for seed in (1, 1, 2):
        oracle, _ = reach(lambda x: x, shape=(3,), classes=3, budget=40)
        scores.append(attack.infer(oracle, rows, true, NOBODY, RNG(seed)))
        assert oracle.spent == 40
    told = ~np.isnan(scores[0])
    assert told.sum() == 40
    assert not told[:40].all()
    assert scores[0][told] == pytest.approx(whole[told])
    assert np.array_equal(scores[0], scores[1], equal_nan=True)
    assert not np.array_equal(told, ~np.isnan(scores[2]))
