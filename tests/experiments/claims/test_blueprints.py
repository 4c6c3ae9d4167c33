"""Attributes read off answers over HTTP, small."""

import numpy as np
import pytest

from experiments.claims.blueprints import A13, CHOICES, drawn_recipe
from experiments.claims.command import reproduce, table

TINY = A13(models=16, victims=3, queries=20, hidden=16, epochs=10)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    base = tmp_path_factory.mktemp("a13")
    return reproduce({"A13": TINY}, out=base / "out", cache=base / "cache", data=None, seeds=range(1))


@pytest.mark.slow
def test_each_attribute_stands_beside_majority_null_and_chance(results):
    rows = results["claims"]["A13"]["rows"]
    assert [row["what"] for row in rows] == list(CHOICES)
    for row in rows:
        assert "of 3" in row["spread"] and all(
            word in row["baseline"] for word in ("majority", "shuffled", "chance")
        )
    assert "values adam, sgd" in table(results)


def test_the_sweep_draws_every_choice():
    rng = np.random.default_rng(0)
    drawn = [drawn_recipe(rng) for _ in range(60)]
    assert {recipe.family.hidden for recipe in drawn} == set(CHOICES["hidden"])
    assert {recipe.training.optimizer for recipe in drawn} == {"adam", "sgd"}
    assert len({recipe.seed for recipe in drawn}) == 60
