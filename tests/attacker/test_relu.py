from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from reached import Recorder, reach

from attacker.asking import NotApplicable
from attacker.extraction.critical_points import Logits, kinks
from attacker.extraction.relu import Relu
from wire import Array, BadInput, Oracle
from zoo.data.pool import Pool
from zoo.families.mlp import Mlp
from zoo.network import Network

SHAPE = (12,)
NONE = Pool(np.empty((0, *SHAPE), np.float32))
RNG = np.random.default_rng(0)
TEST = RNG.uniform(size=(2000, *SHAPE)).astype(np.float32)


def victim(hidden: int, always: int = 0) -> Network:
    """A network whose hidden units are 0 in the middle of the range, except some that are always active."""
    network = Network.new(Mlp((hidden,)), SHAPE, tuple("abc"), seed=hidden)
    layer = network.module[1]
    middle = layer.weight.detach().sum(dim=1) / 2
    layer.bias.data = -middle
    layer.bias.data[:always] += 10
    return network


def told(network: Network, budget: int | None = None) -> tuple[Oracle, Recorder]:
    return reach(network.predict, shape=SHAPE, classes=3, budget=budget, max_rows=10_000)


def difference(copy: Network, network: Network, x: Array = TEST) -> float:
    """The greatest difference of a logit, each row's mean apart."""
    logits = [model.logits(x) - model.logits(x).mean(axis=1, keepdims=True) for model in (copy, network)]
    return float(np.abs(logits[0] - logits[1]).max())


@pytest.mark.parametrize(("hidden", "always"), [(1, 0), (10, 0), (10, 3)])
def test_the_copy_is_functionally_equivalent(hidden: int, always: int) -> None:
    network = victim(hidden, always)
    oracle, recorder = told(network)
    copy = Relu().extract(oracle, NONE, np.random.default_rng(1))
    assert difference(copy, network) < 2e-3
    assert oracle.spent == len(recorder.rows)
    assert isinstance(copy.family, Mlp)
    extra = copy.family.hidden[0] - (hidden - always)
    assert 0 <= extra <= 3  # the linear map of three classes


def test_answers_that_become_labels_only_count_as_withheld() -> None:
    oracle, _ = told(victim(3))
    logits = Logits(oracle)
    logits(TEST[:5].astype(np.float64))
    collect = oracle.collect
    oracle.collect = lambda x: replace(collect(x), probs=None)  # type: ignore[method-assign]
    assert np.isnan(logits(TEST[5:9].astype(np.float64))).all()
    x, known = logits.asked(100, np.random.default_rng(0))
    np.testing.assert_array_equal(x, TEST[:5])
    assert known.shape == (5, 3)


def test_critical_points_are_where_a_hidden_unit_is_zero() -> None:
    network = victim(10)
    oracle, _ = told(network)
    logits = Logits(oracle)
    ends = RNG.uniform(size=(40, *SHAPE))
    logits.measure_noise(ends[:20], ends[20:])
    found = kinks(logits, ends[:20], ends[20:])
    weight, bias = (part.detach().numpy() for part in (network.module[1].weight, network.module[1].bias))
    crossed = ((ends[:20] @ weight.T + bias) * (ends[20:] @ weight.T + bias) < 0).sum()
    assert 0.8 * crossed < len(found) <= crossed
    off = [np.abs(weight @ kink.x + bias).min() for kink in found]
    assert np.quantile(off, 0.9) < 1e-3


def test_a_linear_victim_has_no_hidden_units() -> None:
    network = victim(4, always=4)
    oracle, _ = told(network)
    copy = Relu(idle=1).extract(oracle, NONE, np.random.default_rng(1))
    assert difference(copy, network) < 2e-3 and copy.family.hidden[0] <= 3


def test_a_budget_leaves_a_fit_to_what_was_answered() -> None:
    network = victim(10)
    far = []
    for budget in (30, 600, None):
        oracle, _ = told(network, budget)
        copy = Relu().extract(oracle, NONE, np.random.default_rng(1))
        assert budget is None or oracle.spent == budget
        far.append(difference(copy, network))
    assert far[2] < 0.1 * min(far[:2])


def test_the_same_seed_asks_the_same_rows() -> None:
    asked = []
    for _ in range(2):
        oracle, recorder = told(victim(3))
        Relu(idle=1, steps=0).extract(oracle, NONE, np.random.default_rng(2))
        asked.append(recorder.rows)
    assert np.array_equal(*asked)


@pytest.mark.parametrize("blurred", [{"digits": 4}, {"top_k": 2}, {"noise": 0.01}, {"tells_probs": False}])
def test_blurred_probabilities_are_refused_before_anything_is_asked(blurred: dict[str, float]) -> None:
    oracle, recorder = told(victim(3))
    oracle.card = replace(oracle.card, **blurred)  # type: ignore[arg-type]
    with pytest.raises(NotApplicable):
        Relu().extract(oracle, NONE, RNG)
    assert not recorder.batches


def test_what_is_not_possible_is_refused() -> None:
    with pytest.raises(BadInput, match="at least 1"):
        Relu(lines=0)
