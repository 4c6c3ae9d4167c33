from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from reached import reach

from attacker.asking import NothingAnswered
from attacker.inspection.inspection import Inspection, attributes
from attacker.inspection.metamodel import Metamodel
from wire import BadInput
from zoo.data.pool import Pool
from zoo.families.mlp import Mlp
from zoo.network import Network
from zoo.training import Training

QUICK = Metamodel(queries=40, hidden=32, epochs=40)


@pytest.fixture(scope="module")
def models(digits: Pool) -> list[Network]:
    """Networks of one epoch, and of many."""
    assert digits.y is not None
    made = []
    for seed in range(16):
        network = Network.new(Mlp((16,)), digits.input_shape, digits.class_names, seed=seed)
        part = slice(50 * seed, 50 * seed + 100)
        training = Training(epochs=2 if seed % 2 else 30, batch=16)
        made.append(network.fit(digits.x[part], digits.y[part], training, seed=seed))
    return made


def test_attributes_are_the_fields_that_differ(models: list[Network]) -> None:
    assert attributes(models) == [{"epochs": "2" if seed % 2 else "30"} for seed in range(16)]


def test_the_victims_training_is_read_off_its_answers(models: list[Network], digits: Pool) -> None:
    pool = digits.take(slice(1000, None))
    for victim in range(4):
        oracle, recorder = reach(models[victim].predict)
        found = QUICK.inspect(oracle, models[4:], pool, np.random.default_rng(0))
        assert found == attributes(models)[victim]
        assert oracle.spent == len(recorder.rows) == 40
    assert isinstance(QUICK, Inspection)


def test_labels_are_compared_with_labels(models: list[Network], digits: Pool) -> None:
    pool, rng = digits.take(slice(1000, None)), np.random.default_rng(0)
    oracle, recorder = reach(models[0].predict, tells_probs=False)
    found = QUICK.inspect(oracle, models[4:], pool, rng)
    labels = np.eye(10)[np.stack([model.predict(recorder.rows).argmax(axis=1) for model in models])]
    rng = np.random.default_rng(0)
    assert np.array_equal(QUICK.chosen(pool, rng), recorder.rows)
    seed = int(rng.integers(2**31))
    assert [found] == QUICK.read(labels[4:], attributes(models[4:]), labels[:1], seed=seed)


def test_what_cannot_be_inspected_is_refused(models: list[Network], digits: Pool) -> None:
    rng, pool = np.random.default_rng(0), digits.take(slice(1000, None))
    with pytest.raises(BadInput, match="built alike"):
        QUICK.inspect(reach(models[0].predict)[0], models[2:3], pool, rng)
    with pytest.raises(BadInput, match="no rows"):
        QUICK.inspect(reach(models[0].predict)[0], models, pool.take(slice(0)), rng)
    with pytest.raises(NothingAnswered, match="7 of 40"):
        QUICK.inspect(reach(models[0].predict, budget=7)[0], models, pool, rng)
    with pytest.raises(BadInput, match="at least 2"):
        replace(QUICK, batch=1)
