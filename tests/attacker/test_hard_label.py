"""One hidden layer from labels alone, in double precision."""

from __future__ import annotations

import numpy as np
import pytest

from attacker.asking import NotApplicable
from attacker.extraction.dual_points import Boundary, Duals, hidden_units
from attacker.extraction.hard_label import HardLabel
from wire import Answer, Array, BadInput, Card, Oracle
from zoo.data.pool import Pool
from zoo.families.mlp import Mlp
from zoo.network import Network

SPAN, FEATURES = 3.0, 8
NONE = Pool(np.empty((0, FEATURES), np.float32))
LOW, HIGH = np.full(FEATURES, -SPAN), np.full(FEATURES, SPAN)


def victim(
    hidden: int = 4, classes: int = 2, dtype: str = "FP64", budget: int | None = None
) -> tuple[Network, Oracle]:
    """A perceptron in double precision, and an oracle that tells its labels."""
    shape = (FEATURES,)
    card = Card("m", shape, classes, dtype=dtype, low=-SPAN, high=SPAN, max_rows=65_536, tells_probs=False)
    network = Network.untrained(Mlp((hidden,)), card, seed=3)
    network.module.double()

    def ask(x: Array) -> Answer:
        assert np.abs(x).max() <= SPAN  # a server refuses NaN and rows out of range
        return Answer(network.logits(x).argmax(axis=1))

    return network, Oracle(ask, card, budget)


def margins(network: Network, x: Array) -> Array:
    logits = network.logits(x)
    return np.asarray(logits[:, 1] - logits[:, 0])


def test_the_network_is_found_up_to_one_positive_factor() -> None:
    network, oracle = victim()
    copy = HardLabel(lines=40).extract(oracle, NONE, np.random.default_rng(0))
    x = np.random.default_rng(9).uniform(-SPAN, SPAN, (20_000, FEATURES))
    own, truth = margins(copy, x), margins(network, x)
    factor = (own @ truth) / (own @ own)
    assert factor > 0
    assert np.abs(factor * own - truth).max() < 1e-7 * truth.std()
    assert oracle.spent < 1_000_000


def test_normals_and_bends_of_the_boundary_are_exact() -> None:
    network, oracle = victim()
    weight, bias, out, _ = (part.detach().numpy() for part in network.module.parameters())
    rng = np.random.default_rng(0)
    boundary = Boundary(oracle, LOW, HIGH)
    x, along = boundary.starts(40, rng)
    assert len(x) > 5 and np.abs(margins(network, x)).max() < 1e-13
    normal = boundary.normals(x, along)
    known = np.isfinite(normal).all(axis=1)
    active = (x @ weight.T + bias > 0) * (out[1] - out[0])
    truth = active @ weight / np.linalg.norm(active @ weight, axis=1, keepdims=True)
    assert known.mean() > 0.8
    np.testing.assert_allclose(normal[known], truth[known], atol=1e-9)
    duals = boundary.duals(x[known], normal[known], rng)
    assert len(duals.x) > 2
    assert np.abs(duals.x @ weight.T + bias).min(axis=1).max() < 1e-9


def test_two_planes_tell_a_unit_unless_they_share_a_region() -> None:
    rng = np.random.default_rng(0)
    unit, one, two = rng.standard_normal((3, FEATURES))
    x = rng.standard_normal((2, FEATURES))
    x -= ((x @ unit) / (unit @ unit))[:, None] * unit  # the unit is 0 at both, with bias 0
    normals = np.array([[one, one + unit], [two, two - 0.5 * unit]])
    normals /= np.linalg.norm(normals, axis=2, keepdims=True)
    weight, bias = hidden_units(Duals(x, normals), 2)
    np.testing.assert_allclose(np.abs(weight @ unit) / np.linalg.norm(unit), [1])
    np.testing.assert_allclose(bias, [0], atol=1e-9)
    beside = np.array([[one, one + unit], [one, one + two]])  # both lie beside the region of normal one
    beside /= np.linalg.norm(beside, axis=2, keepdims=True)
    on = x - ((x @ one) / (one @ one))[:, None] * one
    assert len(hidden_units(Duals(on, beside), 2)[1]) == 0


def test_it_needs_rows_in_double_precision_and_two_classes() -> None:
    for fields, why in (({"dtype": "FP32"}, "FP32"), ({"classes": 3}, "3 classes")):
        _, oracle = victim(**fields)  # type: ignore[arg-type]
        with pytest.raises(NotApplicable, match=why):
            HardLabel().extract(oracle, NONE, np.random.default_rng(0))
        assert oracle.spent == 0
    with pytest.raises(BadInput, match="least"):
        HardLabel(least=1)


def test_a_budget_ends_the_search_with_what_was_found() -> None:
    _, oracle = victim(budget=3000)
    copy = HardLabel(lines=20).extract(oracle, NONE, np.random.default_rng(0))
    assert oracle.spent == 3000 and copy.classes == 2
