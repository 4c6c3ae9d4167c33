from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from reached import reach

from attacker.asking import NotApplicable
from attacker.extraction.data_free import DataFree
from attacker.extraction.generator import directions, generator
from wire import BadInput
from zoo.data.pool import Pool
from zoo.network import Network

SMALL = DataFree(2000, family="mlp", batch=16, width=8, latent=16)
NONE = Pool(np.empty((0, 1, 8, 8), np.float32))


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 12, 4), (1, 7, 7), (5,)])
def test_a_generator_makes_rows_of_the_shape(shape: tuple[int, ...]) -> None:
    rows = generator(shape, 16, 8)(torch.randn(4, 16))
    assert rows.shape == (4, *shape)
    assert rows.flatten(1).std() > 0.5  # normalised, so that the nonlinearity does not saturate


def test_directions_have_length_1() -> None:
    drawn = directions(torch.zeros(5, 1, 8, 8), torch.Generator().manual_seed(0))
    assert torch.allclose(drawn.flatten(1).norm(dim=1), torch.ones(5))


def test_forward_differences_estimate_the_gradient() -> None:
    """Over many directions, the estimate is the true gradient of the distance."""
    raw = torch.randn(3, 4, requires_grad=True)

    def distance(x: torch.Tensor) -> torch.Tensor:
        return (x**2).sum(dim=1)

    attack = replace(SMALL, directions=20_000)
    randomness = torch.Generator().manual_seed(0)
    attack._ascent(raw, torch.tanh, distance, randomness).backward()
    estimated = -raw.grad * len(raw)
    true = torch.autograd.grad(distance(torch.tanh(raw)).sum(), raw)[0]
    assert torch.allclose(estimated, true, atol=0.05)


@pytest.mark.parametrize(("queries", "whole"), [("generator", 7), ("random", 5)])
def test_rows_are_what_the_iterations_ask(victim: Network, queries: str, whole: int) -> None:
    oracle, recorder = reach(victim.predict)
    replace(SMALL, queries=queries).extract(oracle, NONE, np.random.default_rng(0))
    assert oracle.spent == len(recorder.rows) == 2000 // (16 * whole) * 16 * whole
    assert recorder.rows.min() >= 0 and recorder.rows.max() <= 1


def test_a_budget_ends_it_and_leaves_a_surrogate(victim: Network) -> None:
    oracle, _ = reach(victim.predict, budget=300)
    copy = SMALL.extract(oracle, NONE, np.random.default_rng(0))
    assert oracle.spent == 300 and not copy.module.training


def test_the_same_seed_makes_the_same_copy(victim: Network) -> None:
    copies = [SMALL.extract(reach(victim.predict)[0], NONE, np.random.default_rng(3)) for _ in range(2)]
    x = np.random.default_rng(0).uniform(size=(20, 1, 8, 8)).astype(np.float32)
    assert np.array_equal(copies[0].predict(x), copies[1].predict(x))


def test_the_copy_learns_from_the_answers(victim: Network, digits: Pool) -> None:
    attack = DataFree(20_000, family="mlp", batch=32, width=16)
    shuffled = np.random.default_rng(0)

    def wrong(x: np.ndarray) -> np.ndarray:
        return shuffled.permutation(victim.predict(x))

    x, scores = digits.x[800:], []
    for predict in (victim.predict, wrong):
        copy = attack.extract(reach(predict, max_rows=1000)[0], NONE, np.random.default_rng(0))
        scores.append((copy.predict(x).argmax(axis=1) == victim.predict(x).argmax(axis=1)).mean())
    assert scores[0] > 0.3 and scores[1] < 0.25


def test_logits_that_are_not_told_are_refused(victim: Network) -> None:
    for oracle, recorder in (reach(victim.predict, tells_probs=False), reach(victim.predict, top_k=3)):
        oracle.card = replace(oracle.card, top_k=3)
        with pytest.raises(NotApplicable):
            SMALL.extract(oracle, NONE, np.random.default_rng(0))
        assert not recorder.batches
    with pytest.raises(BadInput, match="at least 2"):
        replace(SMALL, batch=1)
