from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from reached import Predict, reach

from attacker.asking import NotApplicable, NothingAnswered
from attacker.extraction.equation_solving import EquationSolving
from experiments import metrics
from wire import Answer, Array, BadInput, Card, Oracle
from zoo.data.pool import Pool
from zoo.families.logistic import Logistic, Softmax
from zoo.families.mlp import Mlp
from zoo.families.svm import Svm
from zoo.network import Network
from zoo.recipe import Recipe
from zoo.training import Training

NONE = Pool(np.empty((0, 1, 8, 8), np.float32))
UNIFORM = np.random.default_rng(9).random((2000, 1, 8, 8), np.float32)


@pytest.fixture(scope="module")
def softmax(digits: Pool) -> Network:
    network = Network.new(Softmax(), digits.input_shape, digits.class_names, seed=1)
    assert digits.y is not None
    return network.fit(digits.x[:800], digits.y[:800], Training(epochs=30, batch=32, lr=1e-2), seed=2)


def rounded(predict: Predict, digits: int) -> Oracle:
    """An oracle whose answers are rounded, as its card says."""

    def transport(x: Array) -> Answer:
        probs = predict(x)
        return Answer(probs.argmax(axis=1), np.round(probs, digits))

    return Oracle(transport, Card("m", (1, 8, 8), 10, digits=digits))


def agreements(copy: Network, victim: Network, *rows: Array) -> list[float]:
    return [metrics.agreement(copy.predict(x).argmax(1), victim.predict(x).argmax(1)).rate for x in rows]


def test_one_row_more_than_features_tells_a_softmax(digits: Pool, softmax: Network) -> None:
    oracle, record = reach(softmax.predict)
    copy = EquationSolving(ratio=1 / 10).extract(oracle, NONE, np.random.default_rng(0))
    assert oracle.spent == 65
    assert agreements(copy, softmax, digits.x[800:], UNIFORM) == [1, 1]
    assert metrics.total_variation(copy.predict(UNIFORM), softmax.predict(UNIFORM)) < 1e-4
    assert (record.rows.min() < 0.01, record.rows.max() > 0.99) == (True, True)
    weights, own = (network.module[-1].weight.detach().numpy() for network in (softmax, copy))
    assert own - own.mean(axis=0) == pytest.approx(weights - weights.mean(axis=0), abs=1e-3)


def test_too_few_rows_do_not(digits: Pool, softmax: Network) -> None:
    oracle, _ = reach(softmax.predict, budget=40)
    copy = EquationSolving().extract(oracle, NONE, np.random.default_rng(0))
    assert oracle.spent == 40
    assert agreements(copy, softmax, digits.x[800:])[0] < 0.95


def test_a_binary_logistic_regression_is_a_softmax_of_two(digits: Pool) -> None:
    assert digits.y is not None
    victim = Network.new(Logistic(), digits.input_shape, ("low", "high"), seed=1)
    victim.fit(digits.x[:800], (digits.y[:800] > 4).astype(np.int64), Training(epochs=10), seed=2)
    oracle, _ = reach(victim.predict, classes=2)
    copy = EquationSolving(ratio=0.5).extract(oracle, NONE, np.random.default_rng(0))
    assert oracle.spent == 65
    assert agreements(copy, victim, digits.x[800:], UNIFORM) == [1, 1]


def test_rounded_answers_are_fitted(digits: Pool, softmax: Network) -> None:
    oracle = rounded(softmax.predict, 4)
    copy = EquationSolving().extract(oracle, NONE, np.random.default_rng(0))
    assert oracle.spent == 650
    assert min(agreements(copy, softmax, digits.x[800:], UNIFORM)) > 0.98


def test_one_vs_rest_machines_are_found(digits: Pool) -> None:
    victim = Recipe(Svm("linear")).train(digits.take(slice(800)))
    oracle, _ = reach(victim.predict)
    copy = EquationSolving("one_vs_rest").extract(oracle, NONE, np.random.default_rng(0))
    assert oracle.spent == 650
    assert min(agreements(copy, victim.network(), digits.x[800:], UNIFORM)) > 0.99
    assert metrics.total_variation(copy.predict(UNIFORM), victim.predict(UNIFORM)) < 0.01
    assert copy.family == Svm("linear")


def test_one_vs_rest_of_two_classes_is_a_softmax(digits: Pool) -> None:
    assert digits.y is not None
    low = Pool(digits.x[:800], (digits.y[:800] > 4).astype(np.int64), ("low", "high"))
    victim = Recipe(Svm("linear")).train(low)
    oracle, _ = reach(victim.predict, classes=2)
    copy = EquationSolving("one_vs_rest", ratio=0.5).extract(oracle, NONE, np.random.default_rng(0))
    assert min(agreements(copy, victim.network(), digits.x[800:], UNIFORM)) == 1


def test_a_small_perceptron_is_found_near_its_data(digits: Pool) -> None:
    assert digits.y is not None
    victim = Network.new(Mlp((5,)), digits.input_shape, digits.class_names, seed=1)
    victim.fit(digits.x[:800], digits.y[:800], Training(epochs=30, batch=32, lr=1e-2), seed=2)
    oracle, record = reach(victim.predict)
    attack = EquationSolving("mlp", hidden=(5,), rows="pool", ratio=2, steps=300, starts=2)
    copy = attack.extract(oracle, digits.take(slice(800, 1500)), np.random.default_rng(0))
    assert oracle.spent == 700  # all of the pool, for 385 unknowns
    assert {row.tobytes() for row in record.rows} == {row.tobytes() for row in digits.x[800:1500]}
    assert agreements(copy, victim, digits.x[1500:])[0] > 0.9
    assert copy.predict(digits.x[:1]).dtype == np.float32


def test_it_needs_probabilities_and_bounds_and_rows(digits: Pool, softmax: Network) -> None:
    rng = np.random.default_rng(0)
    labels, _ = reach(softmax.predict, tells_probs=False)
    with pytest.raises(NotApplicable, match="labels only"):
        EquationSolving().extract(labels, NONE, rng)
    boundless, _ = reach(softmax.predict, bounded=False)
    with pytest.raises(BadInput, match="no finite bounds"):
        EquationSolving().extract(boundless, NONE, rng)
    poor, _ = reach(softmax.predict)
    with pytest.raises(NothingAnswered, match="no rows to ask about; expected a file of rows"):
        EquationSolving(rows="pool").extract(poor, NONE, rng)
    assert labels.spent == boundless.spent == poor.spent == 0


@pytest.mark.parametrize("wrong", [{"ratio": 0}, {"steps": 0}, {"starts": 0}])
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="must be greater than 0"):
        EquationSolving(**wrong)
