from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from reached import reach

from attacker.extraction.knockoff import Knockoff
from attacker.extraction.mixmatch import MixMatch
from wire import BadInput
from zoo.data.pool import Pool
from zoo.network import Network

SMALL = MixMatch(steps=20, batch=16, shift=1, family="mlp")


def test_each_row_is_mixed_with_another_that_weighs_at_most_as_much() -> None:
    x, y = torch.eye(8), torch.eye(8)
    mixed, aim = SMALL._mixed(x, y, np.random.default_rng(0))
    assert torch.equal(mixed, aim)  # rows and answers in the same shares
    assert (mixed.diagonal() >= 0.5).all() and torch.allclose(mixed.sum(dim=1), torch.ones(8))
    assert (mixed.diagonal() < 1).any()


def test_a_guess_is_the_sharpened_mean_of_the_copies() -> None:
    """The module's logits are its rows; two copies of two rows."""
    answers = torch.tensor([[0.6, 0.4], [0.5, 0.5], [0.8, 0.2], [0.1, 0.9]])
    guess = replace(SMALL, temperature=0.5)._guess(_Logits(), answers.log())
    mean = (answers[:2] + answers[2:]) / 2
    assert torch.allclose(guess, mean**2 / (mean**2).sum(dim=1, keepdim=True))


class _Logits(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def test_rows_are_asked_once_and_the_budget_holds(victim: Network, digits: Pool) -> None:
    oracle, recorder = reach(victim.predict, budget=100)
    copy = SMALL.extract(oracle, digits, np.random.default_rng(0))
    assert oracle.spent == len(np.unique(recorder.rows.reshape(100, -1), axis=0)) == 100
    assert not copy.module.training


def test_a_pool_that_is_answered_whole_and_rows_without_shape_will_do(victim: Network, digits: Pool) -> None:
    flat = Pool(digits.x[:60].reshape(60, -1), None, digits.class_names)
    oracle, _ = reach(lambda x: victim.predict(x.reshape(-1, 1, 8, 8)), shape=(64,))
    SMALL.extract(oracle, flat, np.random.default_rng(0))
    assert oracle.spent == 60


def test_the_same_seed_makes_the_same_copy(victim: Network, digits: Pool) -> None:
    oracles = [reach(victim.predict, budget=50)[0] for _ in range(2)]
    copies = [SMALL.extract(oracle, digits, np.random.default_rng(3)) for oracle in oracles]
    assert np.array_equal(copies[0].predict(digits.x[:20]), copies[1].predict(digits.x[:20]))


def test_unanswered_rows_help_where_answers_are_few(victim: Network, digits: Pool) -> None:
    x = digits.x[1200:]
    pool, truth = Pool(digits.x[800:1200], None, digits.class_names), victim.predict(x).argmax(axis=1)
    agreed = []
    for attack in (replace(SMALL, steps=300, shift=0, weight=10.0), Knockoff("mlp", epochs=60)):
        hits = []
        for seed in range(3):
            oracle, _ = reach(victim.predict, budget=40)
            copy = attack.extract(oracle, pool, np.random.default_rng(seed))
            hits.append((copy.predict(x).argmax(axis=1) == truth).mean())
        agreed.append(np.mean(hits))
    assert agreed[0] > agreed[1] > 0.5


def test_impossible_settings_are_refused() -> None:
    for wrong in ({"steps": 0}, {"batch": 1}, {"temperature": 0.0}, {"mean": 1.0}, {"weight": -1.0}):
        with pytest.raises(BadInput, match="must be"):
            replace(SMALL, **wrong)
