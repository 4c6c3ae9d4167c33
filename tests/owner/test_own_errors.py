"""The victim's own errors: which rows are chosen, and whom they accuse."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from owner.one_more import beyond
from owner.own_errors import OwnErrors, Rows, score, signal
from owner.ownership import prove
from wire import Answer, BadInput, Oracle
from zoo.data import load
from zoo.families.mlp import Mlp
from zoo.recipe import Recipe
from zoo.training import Training

DIGITS = load("digits", None, Path()).pool
ROWS, REFERENCE, REST = (DIGITS.take(slice(*ends)) for ends in ((0, 200), (200, 900), (900, 1797)))
RECIPE, RNG = Recipe(Mlp((32,)), Training(epochs=60)), np.random.default_rng(0)


def oracle(model, labels_only=False):
    def answer(x):
        probs = model.predict(x)
        return Answer(probs.argmax(axis=1), None if labels_only else probs)

    return Oracle(answer, dataclasses.replace(model.card(), tells_probs=not labels_only))


@pytest.fixture(scope="module")
def victim():
    return RECIPE.train(ROWS)


@pytest.fixture(scope="module")
def others():
    pools = [REST.take(np.random.default_rng(n).permutation(len(REST))[:600]) for n in range(17)]
    return [dataclasses.replace(RECIPE, seed=n).train(pool) for n, pool in enumerate(pools)]


@pytest.fixture(scope="module")
def holdings(victim, others):
    models = {str(n): oracle(model) for n, model in enumerate(others[:16])}
    return Rows(oracle(victim), REFERENCE, models)


def test_the_rows_are_errors_about_which_the_choosing_models_are_right(victim, others, holdings):
    study = OwnErrors().prepare(holdings, RNG)
    places = [int(np.flatnonzero((row == REFERENCE.x).all(axis=(1, 2, 3)))[0]) for row in study.x]
    true = REFERENCE.y[places]
    assert np.array_equal(victim.predict(study.x).argmax(1), study.wrong) and (study.wrong != true).all()
    assert all((model.predict(study.x).argmax(1) == true).mean() > 0.5 for model in others[:8])
    assert list(study.told) == [str(n) for n in range(8, 16)] and len(study.x) >= 5
    assert len(OwnErrors(rows=3).prepare(holdings, RNG).x) == 3


@pytest.mark.parametrize("labels_only", [False, True])
def test_a_theft_is_accused_and_an_independent_model_is_not(victim, others, holdings, labels_only):
    stolen = RECIPE.train(dataclasses.replace(REST, y=victim.predict(REST.x).argmax(1)))
    for model in (victim, stolen):
        found = prove(OwnErrors(alpha=0.05), oracle(model, labels_only), holdings, RNG)
        assert found.suspect_queries == found.details.rows <= 200
        assert found.details.z > (1 if labels_only else 3)
        if not labels_only or model is victim:
            assert found.verdict == "accused"
    poor = dataclasses.replace(RECIPE, training=Training(epochs=2)).train(REST.take(slice(80)))
    for model in (others[16], poor):
        assert prove(OwnErrors(), oracle(model, labels_only), holdings, RNG).verdict == "inconclusive"


def test_a_signal_is_the_odds_among_wrong_labels():
    probs = np.array([[0.5, 0.4, 0.05, 0.05], [0, 0, 1, 0], [0, 1, 0, 0]], np.float32)
    answer = Answer(probs.argmax(axis=1), probs)
    wrong, true = np.array([1, 1, 1]), np.array([0, 0, 0])
    found = signal(answer, wrong, true, False)
    assert found[0] == pytest.approx(np.log(4), abs=1e-3) and found[1] < -10 and found[2] > 10
    assert signal(answer, wrong, true, True).tolist() == [0, -1, 1]
    unsure = Answer(answer.labels, np.array([[0.1, 0.16, 0.02, 0.02], *probs[1:]], np.float32))
    assert signal(unsure, wrong, true, False)[0] == pytest.approx(found[0], abs=1e-3)


def test_a_score_is_in_deviations_of_other_models():
    others = np.random.default_rng(0).normal(3, 2, (4000, 5))
    assert score(np.full(5, 5.0), others) == pytest.approx(1, abs=0.1)


def test_one_more_draw_of_the_same_population_is_accused_at_the_level():
    rng = np.random.default_rng(0)
    p = [beyond(rng.normal(), rng.normal(size=6).tolist()).p for _ in range(2000)]
    assert 0.035 < np.mean(np.array(p) <= 0.05) < 0.065


def test_too_few_models_or_errors_are_refused(victim, holdings):
    with pytest.raises(BadInput, match="at least 6 independent models"):
        OwnErrors().check(victim.card(), dataclasses.replace(holdings, independent={}))
    right = dataclasses.replace(REFERENCE, y=victim.predict(REFERENCE.x).argmax(1))
    with pytest.raises(BadInput, match="expected at least 2"):
        OwnErrors().prepare(dataclasses.replace(holdings, reference=right), RNG)
    with pytest.raises(BadInput, match="rows must be at least 2"):
        OwnErrors(rows=1)
