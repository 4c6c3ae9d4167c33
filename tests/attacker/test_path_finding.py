from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
from kinds import table

from attacker.asking import NotApplicable, NothingAnswered
from attacker.extraction.boxes import Box
from attacker.extraction.path_finding import PathFinding
from wire import Answer, Array, BadInput, Oracle, Refused
from wire.fits import uniform
from zoo.data.pool import Pool
from zoo.families.family import Family
from zoo.families.gbdt import Gbdt
from zoo.families.trees import Forest, Tree
from zoo.model import Model
from zoo.recipe import Recipe

NONE = Pool(np.empty((0, 3), np.float32))
RNG = np.random.default_rng(0)


def rows(n: int, seed: int = 0) -> Pool:
    """Complete rows of a table of two numbers and a category."""
    pool = table(n, seed)
    return pool.take(~np.isnan(pool.x).any(axis=1))


def grown(**fields: Any) -> Model:
    return Recipe(Tree(**{"leaf": 9, "confidence": "laplace", "missing": "stop"} | fields)).train(rows(400))


def oracle(victim: Model, budget: int | None = None, leaves: bool = False) -> tuple[Oracle, list[Array]]:
    asked = list[Array]()

    def transport(x: Array) -> Answer:
        asked.append(x)
        probs = victim.predict(x)
        return Answer(probs.argmax(axis=1), probs, victim.network().leaves(x) if leaves else None)

    card = replace(victim.card(), max_rows=10_000, trees=victim.network().trees if leaves else 0)
    return Oracle(transport, card, budget), asked


def agreement(copy: Model, victim: Model, x: Array) -> float:
    return float((copy.predict(x).argmax(1) == victim.predict(x).argmax(1)).mean())


@pytest.mark.parametrize("kind", ["complete", "incomplete"])
def test_every_leaf_is_found_with_its_answer(kind: Literal["complete", "incomplete"]) -> None:
    victim = grown()
    told, asked = oracle(victim)
    copy = PathFinding(kind, tolerance=0).extract(told, NONE, RNG)
    random = uniform(victim.card(), 3000, RNG)
    assert np.allclose(copy.predict(random), victim.predict(random), atol=1e-6)
    assert np.isnan(np.concatenate(asked)).any() == (kind == "incomplete")
    assert told.spent == len(np.unique(np.concatenate(asked), axis=0))  # no row twice
    assert told.requests < told.spent / 2  # of a dozen leaves; the more there are, the more share a request
    assert (copy.card().features, copy.card().class_names) == (victim.card().features, ("low", "high"))


def test_leaves_that_answers_tell_part_leaves_of_equal_answers() -> None:
    victim = grown(confidence="share", leaf=2)
    random = uniform(victim.card(), 3000, RNG)
    found = [PathFinding(tolerance=0).extract(oracle(victim, leaves=told)[0], NONE, RNG) for told in (False, True)]
    silent, told = ((copy.predict(random) == victim.predict(random)).all(axis=1).mean() for copy in found)
    assert silent < told == 1


@pytest.mark.parametrize("family", [Forest(4, 3), Gbdt(4, 5)])
def test_a_forest_and_boosted_trees_are_found_tree_by_tree(family: Family) -> None:
    victim = Recipe(family).train(rows(400))
    told, asked = oracle(victim, leaves=True)
    copy = PathFinding(tolerance=0).extract(told, NONE, RNG)
    random = uniform(victim.card(), 3000, RNG)
    assert np.allclose(copy.predict(random), victim.predict(random), atol=1e-4)
    assert type(copy.family) is type(family) and copy.trees == victim.network().trees
    assert told.spent == len(np.unique(np.concatenate(asked), axis=0))  # trees share their rows


def test_what_leaves_add_does_not_depend_on_where_thresholds_were_located() -> None:
    victim = Recipe(Forest(5, 4)).train(rows(400))
    copy = PathFinding(tolerance=1.0).extract(oracle(victim, leaves=True)[0], NONE, RNG)
    random = uniform(victim.card(), 3000, RNG)
    close = np.abs(copy.predict(random) - victim.predict(random)).max(axis=1) < 1e-4
    assert 0.7 < close.mean() < 1  # a year, and 1.0 of the third feature, are near a threshold now and then


def test_splits_by_sets_of_codes_are_found() -> None:
    """A victim that sends sets of codes left, which a tree of thresholds does not."""
    victim = grown()
    chosen = np.array([0, 3], np.float32)

    class ByCode:
        def card(self) -> Any:
            return victim.card()

        def predict(self, x: Array) -> Array:
            left = np.isin(x[:, 1], chosen)
            share = np.where(left, 0.3 + (x[:, 0] > 40) / 10, 0.7).astype(np.float32)
            return np.stack([share, 1 - share], axis=1)

    told, _ = oracle(ByCode())  # type: ignore[arg-type]
    copy = PathFinding(tolerance=1e-3).extract(told, NONE, RNG)
    random = uniform(victim.card(), 3000, RNG)
    assert np.allclose(copy.predict(random), ByCode().predict(random), atol=1e-6)
    assert told.spent < 200


def test_leaves_with_the_same_answer_are_not_told_apart() -> None:
    scores = []
    for confidence in ("share", "laplace"):
        victim = grown(confidence=confidence, leaf=1)
        told, _ = oracle(victim)
        copy = PathFinding().extract(told, NONE, RNG)
        scores.append(agreement(copy, victim, uniform(victim.card(), 3000, RNG)))
    assert scores[0] < scores[1]


def test_a_budget_leaves_a_tree_of_what_was_found() -> None:
    victim, scores = grown(), []
    for budget in (1, 60, 400, None):
        told, _ = oracle(victim, budget)
        scores.append(agreement(PathFinding("incomplete").extract(told, NONE, RNG), victim, rows(900, seed=5).x))
        assert budget is None or told.spent <= budget
    assert scores[0] < 0.8 and scores[-1] > 0.99
    assert scores[1] <= scores[2] + 0.05


def test_what_it_needs_is_said_before_anything_is_asked() -> None:
    victim = grown()
    told, _ = oracle(victim)
    labels, whole, boundless = (
        Oracle(told._transport, card)
        for card in (
            replace(told.card, tells_probs=False),
            replace(told.card, missing=False),
            replace(told.card, features=()),
        )
    )
    with pytest.raises(NotApplicable, match="labels only"):
        PathFinding().extract(labels, NONE, RNG)
    with pytest.raises(NotApplicable, match="no feature may be missing"):
        PathFinding("incomplete").extract(whole, NONE, RNG)
    with pytest.raises(BadInput, match="finite bounds"):
        PathFinding().extract(boundless, NONE, RNG)
    assert labels.spent == whole.spent == boundless.spent == 0


def test_nothing_answered_is_an_error() -> None:
    def refuse(x: Array) -> Answer:
        raise Refused("no")

    with pytest.raises(NothingAnswered):
        PathFinding().extract(Oracle(refuse, grown().card()), NONE, RNG)


def test_a_tolerance_is_a_distance() -> None:
    for wrong in (-1.0, np.inf):
        with pytest.raises(BadInput, match="at least 0"):
            PathFinding(tolerance=wrong)


def test_a_box_holds_the_rows_between_its_bounds() -> None:
    box = Box.whole(3).below(0, 5).above(0, 2).among(1, frozenset({1, 2}))
    assert box.bounded.tolist() == [True, True, False]
    held = [box.holds(np.array(row)) for row in ([5, 1, np.nan], [2, 1, 0], [3, 0, 0], [np.nan, 1, 0])]
    assert held == [True, False, False, False]
    assert dict(box.among(1, frozenset({2, 3})).codes) == {1: frozenset({2})}
