"""Dataset inference by weights: a victim that memorised its rows, and models that never saw them."""

import argparse
import dataclasses
from pathlib import Path

import numpy as np
import pytest

from owner import judging
from owner.dataset_inference.by_weights import InferenceByWeights
from wire import BadInput
from zoo import folder
from zoo.data import load
from zoo.families.mlp import Mlp
from zoo.recipe import Recipe
from zoo.training import Training

DIGITS = load("digits", None, Path()).pool
ROWS, UNSEEN, REST = (DIGITS.take(slice(*ends)) for ends in ((0, 150), (150, 300), (300, 1797)))
WRONG = np.random.default_rng(3).permutation(ROWS.y)
RECIPE = Recipe(Mlp((64,)), Training(epochs=80, lr=1e-2))
TEST = InferenceByWeights(fit_images=20, test_images=20, steps=60)


@pytest.fixture(scope="module")
def models():
    """A victim that learnt labels by heart, and four models of other rows."""
    victim = RECIPE.train(dataclasses.replace(ROWS, y=WRONG)).network()
    pools = (REST.take(slice(150 * n, 150 * (n + 1))) for n in range(4))
    return victim, [dataclasses.replace(RECIPE, seed=n).train(pool).network() for n, pool in enumerate(pools)]


def test_the_victim_is_accused_and_an_independent_model_is_not(models):
    victim, others = models
    study = TEST.prepare(victim, ROWS, UNSEEN, np.random.default_rng(0))
    effects = {str(n): TEST.effect(model, study).delta_mu for n, model in enumerate(others[:3])}
    own, other = (TEST.accuse(model, study, effects) for model in (victim, others[3]))
    assert other.verdict == "inconclusive" and own.details.delta_mu > max(effects.values())
    assert own.p_value == max(own.details.p_zero, own.details.p_models) and own.suspect_queries == 0
    shown = {row.tobytes() for row in np.concatenate([study.private.x, study.unseen.x])}
    assert len(shown) == 40 and len(study.private) == 20
    with pytest.raises(BadInput, match="at least 3 independent"):
        TEST.accuse(victim, study, {})


def test_the_command_tests_folders(models, tmp_path):
    victim, others = models
    for name, model in zip(("victim", "a", "b", "c"), (victim, *others), strict=False):
        folder.save(model, tmp_path / name)
    for name, pool in (("private", ROWS), ("unseen", UNSEEN)):
        pool.save(tmp_path / f"{name}.npz")
    given = argparse.Namespace(
        suspect=tmp_path / "victim",
        victim=tmp_path / "victim",
        private=tmp_path / "private.npz",
        unseen=tmp_path / "unseen.npz",
        independent=[tmp_path / name for name in "abc"],
        out=tmp_path / "evidence.json",
        seed=0,
        **dataclasses.asdict(InferenceByWeights(fit_images=10, test_images=10, steps=20)),
    )
    assert "delta mu" in judging.inference_by_weights(given) and given.out.exists()
    given.independent = []
    with pytest.raises(BadInput, match="at least 3 independent"):
        judging.inference_by_weights(given)


def test_what_cannot_be_used_is_refused(models):
    with pytest.raises(BadInput, match="at least 2 a side"):
        InferenceByWeights(fit_images=1)
    with pytest.raises(BadInput, match="150 rows, but 200 to fit"):
        InferenceByWeights().prepare(models[0], ROWS, UNSEEN, np.random.default_rng(0))
