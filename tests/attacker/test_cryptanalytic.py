"""Deep networks from answers in double precision, layer by layer."""

from __future__ import annotations

import numpy as np
import pytest

from attacker.asking import NotApplicable
from attacker.extraction.critical_points import Logits, gradient_jump, kinks
from attacker.extraction.cryptanalytic import Cryptanalytic
from attacker.extraction.layers import Bend, Layers, Unit, joined, next_layer, turned
from wire import Answer, Array, BadInput, Card, Oracle
from zoo.data.pool import Pool
from zoo.families.mlp import Mlp
from zoo.network import Network

SPAN = 3.0
NONE = Pool(np.empty((0, 10), np.float32))


def victim(*widths: int, seed: int, dtype: str = "FP64", budget: int | None = None) -> tuple[Network, Oracle]:
    """A perceptron in double precision, and an oracle of it."""
    card = Card("m", widths[:1], widths[-1], dtype=dtype, low=-SPAN, high=SPAN, max_rows=4096)
    network = Network.untrained(Mlp(widths[1:-1]), card, seed=seed)
    network.module.double()

    def ask(x: Array) -> Answer:
        probs = network.predict(x)
        return Answer(probs.argmax(axis=1), probs)

    return network, Oracle(ask, card, budget)


def difference(copy: Network, network: Network, features: int) -> float:
    """The greatest difference of a logit on uniformly random rows, each row's mean apart."""
    x = np.random.default_rng(9).uniform(-SPAN, SPAN, (5000, features))
    logits = [model.logits(x) - model.logits(x).mean(axis=1, keepdims=True) for model in (copy, network)]
    return float(np.abs(logits[0] - logits[1]).max())


def test_two_hidden_layers_are_found_to_double_precision() -> None:
    network, oracle = victim(10, 5, 5, 2, seed=1)
    copy = Cryptanalytic().extract(oracle, NONE, np.random.default_rng(0))
    assert difference(copy, network, 10) < 1e-9
    assert isinstance(copy.family, Mlp) and copy.family.hidden[0] == 5
    assert oracle.spent < 100_000


def test_one_hidden_layer_and_none_are_found_too() -> None:
    for widths in ((10, 4, 3), (10, 3)):
        network, oracle = victim(*widths, seed=0)
        copy = Cryptanalytic(rounds=4).extract(oracle, NONE, np.random.default_rng(0))
        assert difference(copy, network, 10) < 1e-9


def test_the_first_layer_s_units_are_told_from_deeper_ones_and_their_signs_are_right() -> None:
    network, oracle = victim(10, 5, 5, 2, seed=0)
    weight, bias = (part.detach().numpy() for part in (network.module[1].weight, network.module[1].bias))
    rng, logits, low, high = np.random.default_rng(0), Logits(oracle), np.full(10, -SPAN), np.full(10, SPAN)

    def draw(n: int, around: Array | None = None) -> tuple[Array, Array]:
        return tuple(rng.uniform(-SPAN, SPAN, (2, n, 10)))  # type: ignore[return-value]

    logits.measure_noise(*draw(8))
    jumps = [(kink, gradient_jump(logits, kink, low, high)) for kink in kinks(logits, *draw(60))]
    bends = [Bend(kink, jump) for kink, jump in jumps if jump is not None]
    near = [np.abs(weight @ bend.kink.x + bias).min() for bend in bends]
    assert 0 < np.mean(np.array(near) > 1e-3) < 0.5  # some are of deeper units
    layers = Layers(10)
    units = next_layer(layers, bends, logits, draw, 0.6)
    found, offsets = turned(layers, units, logits)
    size = np.linalg.norm(weight, axis=1)
    cosine = (found / np.linalg.norm(found, axis=1, keepdims=True)) @ (weight / size[:, None]).T
    assert sorted(cosine.argmax(axis=1)) == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(cosine.max(axis=1), 1, atol=1e-10)  # not -1
    np.testing.assert_allclose(offsets, (bias / size)[cosine.argmax(axis=1)], atol=1e-10)


def test_measurements_complete_each_other_where_units_before_were_off() -> None:
    nan = np.nan
    parts = [[1, 2, nan, 4], [-2, -4, -6, nan], [1, 2.1, 3, nan], [nan, nan, 3, 4]]
    units = joined(
        [Unit(np.array(weight), float(weight[0] * 0.5) if weight[0] == weight[0] else 0.5, []) for weight in parts]
    )
    assert len(units) == 2
    np.testing.assert_allclose(units[0].weight, [1, 2, 3, 4])


def test_it_needs_double_precision_and_whole_answers() -> None:
    _, oracle = victim(10, 5, 2, seed=0, dtype="FP32")
    with pytest.raises(NotApplicable, match="FP32"):
        Cryptanalytic().extract(oracle, NONE, np.random.default_rng(0))
    assert oracle.spent == 0
    with pytest.raises(BadInput, match="tolerance"):
        Cryptanalytic(tolerance=0)


def test_a_budget_ends_the_search_with_what_was_found() -> None:
    network, oracle = victim(10, 5, 5, 2, seed=0, budget=8000)
    copy = Cryptanalytic().extract(oracle, NONE, np.random.default_rng(0))
    assert oracle.spent == 8000 and copy.classes == network.classes
