"""Conferrable adversarial examples: how they are made, and whom they accuse."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from owner.conferrable import Conferrable, Models, conferrability
from owner.ownership import prove
from wire import Answer, BadInput, Oracle
from zoo.data import load
from zoo.families.mlp import Mlp
from zoo.recipe import Recipe
from zoo.training import Training

DIGITS = load("digits", None, Path()).pool
ROWS, REFERENCE, REST = (DIGITS.take(slice(*ends)) for ends in ((0, 300), (300, 1100), (1100, 1797)))
RECIPE = Recipe(Mlp((32,)), Training(epochs=60))
TEST = Conferrable(rows=40, models=4, epochs=30, candidates=300, steps=40, radius=0.15, lr=0.03)


def oracle(model):
    return Oracle(lambda x: Answer(model.predict(x).argmax(axis=1)), model.card())


@pytest.fixture(scope="module")
def victim():
    return RECIPE.train(ROWS).network()


@pytest.fixture(scope="module")
def others():
    pools = [REST.take(np.random.default_rng(n).permutation(len(REST))[:300]) for n in range(7)]
    return [dataclasses.replace(RECIPE, seed=n).train(pool) for n, pool in enumerate(pools)]


@pytest.fixture(scope="module")
def holdings(victim, others):
    return Models(victim, REFERENCE, {str(n): oracle(model) for n, model in enumerate(others[:6])})


def test_moved_images_stay_near_and_become_conferrable(victim):
    rng = np.random.default_rng(0)
    thefts, references = TEST.owned(victim, REFERENCE.take(slice(400)), rng)
    before = REFERENCE.x[400:600]
    after = TEST.moved(victim, thefts, references, before, rng)
    assert np.abs(after - before).max() <= 0.15 + 1 / 255 and after.min() >= 0 and after.max() <= 1
    assert np.array_equal(np.rint(after * 255) / np.float32(255), after)
    found = [conferrability(thefts, references, x).mean() for x in (before, after)]
    assert found[1] > 1.5 * found[0]
    agreed = [
        np.mean([m.predict(after).argmax(1) == victim.predict(after).argmax(1) for m in part])
        for part in (thefts, references)
    ]
    assert agreed[0] > agreed[1] + 0.2
    new = dataclasses.replace(TEST, models=4).owned(victim, REFERENCE.take(slice(600, 800)), rng)
    assert conferrability(*new, after).mean() > conferrability(*new, before).mean()


def test_copies_are_accused_and_an_independent_model_is_not(victim, others, holdings):
    found = prove(TEST, oracle(victim), holdings, np.random.default_rng(1))
    assert found.verdict == "accused" and found.details.shared == 1 and found.suspect_queries == 40
    stolen = RECIPE.train(dataclasses.replace(REST, y=victim.predict(REST.x).argmax(1)))
    study = TEST.prepare(holdings, np.random.default_rng(2))
    theft, innocent = (TEST.accuse(oracle(m), study, np.random.default_rng(3)) for m in (stolen, others[6]))
    assert theft.details.shared > innocent.details.shared + 0.15 and innocent.verdict == "inconclusive"


def test_what_cannot_be_used_is_refused(victim, holdings):
    with pytest.raises(BadInput, match="at least 3 independent"):
        TEST.check(victim.card(), dataclasses.replace(holdings, independent={}))
    with pytest.raises(BadInput, match="rows and models must be at least 2"):
        Conferrable(models=1)
    with pytest.raises(BadInput, match="must lie between 0 and 1"):
        Conferrable(radius=0)
