from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from reached import reach

from attacker.asking import NotApplicable
from attacker.extraction.clone import Clone
from attacker.extraction.dfms_hl import DfmsHl
from attacker.extraction.gan import Gan, shapes
from wire import BadInput
from zoo.data.pool import Pool
from zoo.families.logistic import Softmax
from zoo.network import Network

SMALL = DfmsHl(400, shapes=64, family="mlp", batch=16, gan_epochs=1, width=8, latent=16)
NONE = Pool(np.empty((0, 1, 8, 8), np.float32))
ENDS = np.zeros((1, 8, 8)), np.ones((1, 8, 8))


def test_shapes_are_images_of_many_kinds() -> None:
    x = shapes(50, (3, 9, 7), np.random.default_rng(0))
    assert x.shape == (50, 3, 9, 7) and x.dtype == np.float32 and x.min() >= 0 and x.max() <= 1
    assert len(np.unique(x[0, 0])) > 2
    assert x.std(axis=0).min() > 0.1  # they are in all places


def test_the_generator_learns_to_make_images_like_the_real_ones() -> None:
    """Real images are dark on the left and bright on the right."""
    real = torch.zeros(32, 1, 8, 8)
    real[..., 4:] = 1.0
    gan = Gan((1, 8, 8), ENDS, 8, 8, seed=0, lr=2e-3)
    for _ in range(100):
        gan.step(real)
    made = gan.made(32)
    assert made[..., 4:].mean() - made[..., :4].mean() > 0.5


def test_the_diversity_spreads_what_is_made_over_the_classes() -> None:
    """The clone's class is whether an image is bright. The real images are all dark."""
    network = Network.new(Softmax(), (1, 8, 8), ("dark", "bright"), seed=0)
    with torch.no_grad():
        for parameter in network.module.parameters():
            parameter.zero_()
        weight, bias = network.module.parameters()
        weight[1], bias[1] = 1.0, -32.0  # of 64 features
    clone = Clone(network, 1, 1, 1, 0.1)
    bright = []
    for diversity in (0.0, 500.0):
        gan = Gan((1, 8, 8), ENDS, 8, 8, seed=0, lr=2e-3)
        for _ in range(100):
            gan.step(torch.zeros(32, 1, 8, 8), lambda made, by=diversity: by * clone.sameness(made))
        bright.append(network.predict(gan.made(64).detach().numpy()).argmax(axis=1).mean())
    assert bright[0] < 0.05 and 0.25 < bright[1] < 0.75


@pytest.mark.parametrize("queries", ["generator", "proxies", "random"])
def test_rows_are_asked_once_each_and_are_as_many_as_said(victim: Network, queries: str) -> None:
    oracle, recorder = reach(victim.predict, tells_probs=False)
    replace(SMALL, queries=queries).extract(oracle, NONE, np.random.default_rng(0))
    assert oracle.spent == len(recorder.rows) == 80 + (400 - 80) // 16 * 16
    assert len(np.unique(recorder.rows.reshape(400, -1), axis=0)) == 400
    assert recorder.rows.min() >= 0 and recorder.rows.max() <= 1


def test_half_of_the_first_rows_are_proxies(victim: Network, digits: Pool) -> None:
    oracle, recorder = reach(victim.predict, tells_probs=False)
    replace(SMALL, proxies="pool").extract(oracle, digits, np.random.default_rng(0))
    known = {row.tobytes() for row in digits.x}
    assert [row.tobytes() in known for row in recorder.rows[:80]] == [True] * 40 + [False] * 40


def test_proxies_are_not_asked_twice(victim: Network, digits: Pool) -> None:
    oracle, _ = reach(victim.predict, tells_probs=False)
    few = digits.take(slice(100))
    replace(SMALL, proxies="pool", queries="proxies").extract(oracle, few, np.random.default_rng(0))
    assert oracle.spent == 100


def test_a_budget_ends_it_and_leaves_a_clone(victim: Network) -> None:
    for budget in (50, 150):
        oracle, _ = reach(victim.predict, budget=budget, tells_probs=False)
        copy = SMALL.extract(oracle, NONE, np.random.default_rng(0))
        assert oracle.spent == budget and not copy.module.training


def test_the_same_seed_makes_the_same_clone(victim: Network) -> None:
    oracles = [reach(victim.predict, tells_probs=False)[0] for _ in range(2)]
    copies = [SMALL.extract(oracle, NONE, np.random.default_rng(3)) for oracle in oracles]
    x = np.random.default_rng(0).uniform(size=(20, 1, 8, 8)).astype(np.float32)
    assert np.array_equal(copies[0].predict(x), copies[1].predict(x))


def test_the_clone_learns_from_the_labels(victim: Network, digits: Pool) -> None:
    attack = replace(SMALL, rows=1600, batch=32, proxies="pool", gan_epochs=5, lr=0.05)
    shuffled = np.random.default_rng(0)

    def wrong(x: np.ndarray) -> np.ndarray:
        return shuffled.permutation(victim.predict(x))

    x, scores = digits.x[800:], []
    for predict in (victim.predict, wrong):
        copy = attack.extract(
            reach(predict, max_rows=1000, tells_probs=False)[0], digits.take(slice(400)), np.random.default_rng(0)
        )
        scores.append((copy.predict(x).argmax(axis=1) == victim.predict(x).argmax(axis=1)).mean())
    assert scores[0] > 0.3 and scores[1] < 0.25


def test_what_cannot_be_done_is_refused(victim: Network) -> None:
    oracle, recorder = reach(lambda x: victim.predict(x.reshape(-1, 1, 8, 8)), shape=(64,))
    with pytest.raises(NotApplicable, match="images"):
        SMALL.extract(oracle, Pool(np.empty((0, 64), np.float32)), np.random.default_rng(0))
    with pytest.raises(BadInput, match="at least 2 images"):
        replace(SMALL, proxies="pool").extract(reach(victim.predict)[0], NONE, np.random.default_rng(0))
    with pytest.raises(BadInput, match="warm_share"):
        replace(SMALL, warm_share=0.0)
    assert not recorder.batches
