"""TRA: forests and boosted trees are found on every cell of their thresholds."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any, Literal

import numpy as np
import pytest

from attacker.asking import NotApplicable
from attacker.extraction.boxes import Box
from attacker.extraction.counterfactuals import Counterfactuals
from attacker.extraction.tra import Tra
from wire import Answer, Array, BadInput, Card, Oracle
from wire.types import Feature
from zoo.data.pool import Pool
from zoo.families.family import Family
from zoo.families.gbdt import Gbdt
from zoo.families.trees import Forest, Tree
from zoo.model import Model
from zoo.recipe import Recipe

NONE = Pool(np.empty((0, 3), np.float32))
FEATURES = tuple(Feature(name, low=0, high=1) for name in "abc")


def grown(family: Family, k: int = 3) -> Model:
    rng = np.random.default_rng(5)
    x = rng.random((300, 3)).astype(np.float32)
    y = ((x[:, 0] > 0.4) * 1 + (x[:, 1] * x[:, 2] > 0.25)).astype(np.int64) % k
    return Recipe(family).train(Pool(x, y, tuple("xyz")[:k], features=FEATURES))


def oracle(victim: Model, budget: int | None = None, **card: Any) -> Oracle:
    def told(x: Array) -> Answer:
        probs = victim.predict(x)
        return Answer(probs.argmax(axis=1), probs)

    return Oracle(told, replace(victim.card(), max_rows=10_000, low=0.0, high=1.0, **card), budget)


def cells(victim: Model) -> Array:
    """Returns a row of every cell into which the victim's thresholds divide the space."""
    tensors = victim.tensors()
    inner = tensors["left"].numpy() != np.arange(len(tensors["left"]))
    feature, threshold = tensors["feature"].numpy()[inner], tensors["threshold"].numpy()[inner]
    middles = list[Array]()
    for column in range(3):
        ends = np.array([0, *np.unique(threshold[feature == column]), 1])
        middles.append((ends[1:] + ends[:-1]) / 2)
    return np.array([*product(*middles)], np.float32)


@pytest.mark.parametrize("family", [Tree(4), Forest(3, 3), Gbdt(3, 4)])
def test_labels_suffice_to_find_an_ensemble_exactly(family: Family) -> None:
    victim = grown(family)
    told, x = oracle(victim), cells(victim)
    copy = Tra(probes=300, sweeps=3, tolerance=0).extract(told, NONE, np.random.default_rng(0))
    truth = victim.predict(x).argmax(axis=1)
    assert len(x) > 50 and (copy.predict(x).argmax(axis=1) == truth).all()
    constant = np.bincount(truth).max() / len(truth)
    assert constant < 0.9
    assert told.requests < 1000


def test_answers_are_told_apart_where_probabilities_are_wanted() -> None:
    victim = grown(Forest(2, 2))
    x = cells(victim)
    kinds: tuple[Literal["labels", "answers"], ...] = ("labels", "answers")
    copies = {
        told: Tra(told, tolerance=0).extract(oracle(victim), NONE, np.random.default_rng(0)) for told in kinds
    }
    assert np.allclose(copies["answers"].predict(x), victim.predict(x), atol=1e-6)
    assert not np.allclose(copies["labels"].predict(x), victim.predict(x), atol=1e-2)


def test_thresholds_are_the_victims_own() -> None:
    victim = grown(Forest(3, 3))
    copy = Tra(tolerance=0).extract(oracle(victim), NONE, np.random.default_rng(0))
    theirs, ours = ({name: part.numpy() for name, part in model.tensors().items()} for model in (victim, copy))
    for feature in range(3):
        real = theirs["threshold"][theirs["feature"] == feature]
        split = (ours["feature"] == feature) & (ours["left"] != ours["right"])
        assert all(np.abs(real - threshold).min() < 1e-6 for threshold in ours["threshold"][split])


def test_a_counterfactual_is_locally_optimal_and_a_known_row_costs_none() -> None:
    def told(x: Array) -> Answer:
        return Answer(((x[:, 0] > 0.7) & (x[:, 1] > 0.3)).astype(np.int64))

    victim = Oracle(told, Card("", (3,), 2, tells_probs=False))
    search = Counterfactuals(victim, "labels", 32, 0.0, np.random.default_rng(0))
    known = [(np.array([[0.9, 0.9, 0.9]], np.float32), np.array([1]))]
    own, (found,), _ = search.find([Box.whole(3)], known)
    assert own.tolist() == [0] and found is not None and found.codes == {}
    assert found.row[1] == found.row[2] == 0.5 and found.row[0] == np.nextafter(np.float32(0.7), np.float32(1))
    assert list(found.ends) == [0] and abs(found.ends[0] - 0.7) < 1e-6
    assert victim.spent < 40  # the middle, what each feature is free to do, and one bisection


def test_what_a_small_budget_found_is_kept() -> None:
    victim = grown(Forest(3, 3))
    told, x = oracle(victim, 600), cells(victim)
    copy = Tra(tolerance=0).extract(told, NONE, np.random.default_rng(0))
    assert told.spent <= 600 and told.ended is not None
    truth = victim.predict(x).argmax(axis=1)
    assert np.bincount(truth).max() / len(truth) < (copy.predict(x).argmax(axis=1) == truth).mean()


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(BadInput, match="probes and sweeps must be at least 1"):
        Tra(probes=0)
    with pytest.raises(NotApplicable):
        Tra("answers").extract(oracle(grown(Tree(1)), tells_probs=False), NONE, np.random.default_rng(0))
