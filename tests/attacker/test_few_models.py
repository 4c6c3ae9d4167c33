"""Attacks with one model or a few: quantile regression and imitation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from memorised import MEMBER, SIZE, oracle_of, spied
from scipy.stats import norm
from torch.nn import functional

from attacker.asking import NotApplicable
from attacker.membership.gap import Gap
from attacker.membership.imia import Imia, _imitation, _ratio
from attacker.membership.quantile import LEVELS, Quantile, _pinball, _surprise, _unlikelihood
from attacker.membership.signals import margin
from experiments import metrics
from wire import Answer, BadInput
from zoo.data.pool import Pool
from zoo.network import Network

RNG = np.random.default_rng
BOUND = metrics.null_bound(4, SIZE, SIZE)
QUANTILE: dict[str, Any] = {"family": "mlp", "epochs": 20, "population": 800}
IMIA: dict[str, Any] = {
    "family": "mlp",
    "pairs": 4,
    "warm_up": 5,
    "imitation": 20,
    "memorising": 40,
    "population": 400,
}


@pytest.mark.parametrize(
    ("attack", "least"),
    [(Quantile(**QUANTILE), 0.6), (Quantile(**QUANTILE, form="pinball"), 0.58), (Imia(**IMIA), 0.65)],
    ids=["normal", "pinball", "imia"],
)
def test_a_planted_leak_is_found_and_none_where_there_is_none(
    attack: Any, least: float, memorised: Network, unseen: Network, rows: Pool
) -> None:
    scores = spied(attack, memorised, rows)
    assert metrics.auc(scores, MEMBER) > least
    assert metrics.auc(scores, MEMBER) > metrics.auc(spied(Gap(), memorised, rows), MEMBER)
    assert abs(metrics.auc(spied(attack, unseen, rows), MEMBER) - 0.5) < BOUND


def test_the_margin_is_that_of_the_logits() -> None:
    logits = RNG(0).normal(0, 3, (20, 5))
    probs = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(np.float32)
    y = RNG(1).integers(5, size=20)
    others = np.where(np.arange(5) == y[:, None], -np.inf, logits).max(axis=1)
    found = margin(Answer(probs.argmax(axis=1), probs), y, 5)
    assert np.allclose(found, logits[np.arange(20), y] - others, atol=1e-4)


def test_the_regressor_is_fitted_by_the_normal_likelihood() -> None:
    outputs, y, margins = RNG(0).normal(size=(9, 6)), RNG(1).integers(3, size=9), RNG(2).normal(size=9)
    told = torch.tensor(np.column_stack([y, margins]))
    rows = np.arange(9)
    logs = norm.logpdf(margins, outputs[rows, y], np.exp(outputs[rows, y + 3]))
    assert float(_unlikelihood(torch.tensor(outputs), told)) == pytest.approx(
        -np.mean(logs) - np.log(2 * np.pi) / 2
    )


def test_the_pinball_loss_is_least_at_the_quantiles() -> None:
    margins, y = RNG(0).normal(size=4000), np.zeros(4000, int)
    told = torch.tensor(np.column_stack([y, margins]))
    right = np.quantile(margins, 1 - np.array(LEVELS))

    def loss(quantiles: Any) -> float:
        return float(_pinball(torch.tensor(np.tile(quantiles, (4000, 1))), told))

    alpha, one = np.array(LEVELS), np.maximum(margins[:, None] - right, 0)
    expected = ((1 - alpha) * one + alpha * np.maximum(right - margins[:, None], 0)).mean()
    assert loss(right) == pytest.approx(expected)
    for level in (5, 20):
        for step in (-0.1, 0.1):
            moved = right.copy()
            moved[level] += step
            assert loss(moved) > loss(right)


def test_the_surprise_is_the_logarithm_of_the_share_above() -> None:
    quantiles = np.linspace(-2, 2, len(LEVELS))
    outputs = np.column_stack([quantiles + 10 * label for label in (0, 1)]).reshape(1, -1).repeat(4, axis=0)
    y, margins = np.array([0, 0, 1, 0]), np.array([quantiles[10], quantiles[40], 10 + quantiles[10], 3.0])
    found = _surprise(outputs, y, margins)
    assert found == pytest.approx([np.log(10), np.log(1e4), np.log(10), np.log(1e4) + 1])
    assert np.allclose(_surprise(outputs[:, ::-1].copy(), 1 - y, margins), found)  # crossed, and sorted


@pytest.mark.parametrize("form", ["normal", "pinball"])
def test_the_threshold_of_quantile_holds_its_false_positive_rate(form: Any, unseen: Network, rows: Pool) -> None:
    attack = Quantile(**{**QUANTILE, "epochs": 5}, form=form, fpr=0.1)
    called = spied(attack, unseen, rows) > attack.threshold
    assert 0.03 < called.mean() < 0.2


def test_the_imitation_weighs_the_label_and_its_rival() -> None:
    rng = RNG(0)
    logits, told, label = rng.normal(size=(1, 4)), np.log([[0.1, 0.2, 0.3, 0.4]]), 3
    student = functional.log_softmax(torch.tensor(logits), 1).numpy()
    weights = np.array([1, 1, 2, 2])
    distance = ((weights * (student - told)) ** 2).mean() / weights.mean()
    expected = 0.7 * distance - 0.3 * student[0, label]
    target = torch.tensor(np.column_stack([[label], told]))
    assert float(_imitation(torch.tensor(logits), target, 0.7, 2.0)) == pytest.approx(expected)


def test_the_score_of_imia_is_a_ratio_of_normal_likelihoods() -> None:
    rng = RNG(0)
    victim, inside, outside = rng.normal(size=6), rng.normal(size=(2, 6)), rng.normal(size=(2, 6))
    inside[0, :3] = outside[0, :3] = np.nan
    into, out = np.nanmean(inside, axis=0), np.nanmean(outside, axis=0)
    deviation = np.r_[victim - into, victim - out].std()
    expected = norm.logpdf(victim, into, deviation) - norm.logpdf(victim, out, deviation)
    assert np.allclose(_ratio(victim, inside, outside), expected)


@pytest.mark.parametrize("attack", [Quantile(**{**QUANTILE, "epochs": 1}), Imia(family="mlp", population=100)])
def test_rows_are_billed_and_an_early_end_leaves_nan(attack: Any, memorised: Network, rows: Pool) -> None:
    candidates, shadow = rows.take(slice(2 * SIZE)), rows.take(slice(2 * SIZE, 1400))
    oracle, record = oracle_of(memorised)
    oracle._budget = 400
    assert candidates.y is not None
    scores = attack.infer(oracle, candidates.x, candidates.y, shadow, RNG(0))
    assert oracle.spent == len(record.rows) == 400
    assert np.isfinite(scores).sum() == {Quantile: 200, Imia: 300}[type(attack)]


@pytest.mark.parametrize("attack", [Quantile(), Imia()])
def test_labels_alone_are_not_enough_and_cost_nothing(attack: Any, memorised: Network) -> None:
    oracle, record = oracle_of(memorised, "labels")
    with pytest.raises(NotApplicable, match="labels only"):
        attack.infer(oracle, np.zeros((1, 1, 8, 8)), np.zeros(1, int), None, RNG(0))
    assert not record.batches


@pytest.mark.parametrize(
    "make", [lambda: Quantile(fpr=0), lambda: Imia(pairs=3), lambda: Imia(alpha=0), lambda: Imia(imitation=0)]
)
def test_settings_that_make_no_sense_are_refused(make: Any) -> None:
    with pytest.raises(BadInput):
        make()
