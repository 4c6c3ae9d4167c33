from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from memorised import MEMBER, ignorant, oracle_of, settings, spied
from sklearn.metrics import roc_auc_score

from attacker import Shadow
from attacker.membership.match_policy import blurred
from attacker.membership.signals import log_odds
from wire import Answer, Array, BadInput, Card
from zoo.data.pool import Pool
from zoo.network import Network

RNG = np.random.default_rng
NAN = np.nan


def small(state: Path, **changed: object) -> Shadow:
    return Shadow(**settings(state, **{"attack_epochs": 5, **changed}))


@pytest.mark.parametrize(("policy", "least"), [("full", 0.6), ("noisy", 0.6), ("labels", 0.6)])
def test_members_of_an_overfit_model_are_told_from_others(
    policy: str, least: float, state: Path, memorised: Network, rows: Pool
) -> None:
    scores = spied(small(state), memorised, rows, policy)
    assert np.isfinite(scores).all()
    assert roc_auc_score(MEMBER, scores) > least
    called = scores > small(state).threshold
    assert called[MEMBER].mean() > called[~MEMBER].mean() + 0.1


def test_rows_that_the_model_never_saw_are_not_told_apart(state: Path, rows: Pool) -> None:
    scores = spied(small(state), ignorant(rows), rows)
    assert roc_auc_score(MEMBER, scores) == pytest.approx(0.5, abs=0.07)


def test_each_class_has_an_attack_model_of_its_own() -> None:
    # In class 0 members are told surely and others are not; in class 1 it is the other way round.
    sure, unsure = [3.0, -3.0], [0.4, -0.4]
    answers = np.repeat(np.array([sure, unsure, unsure, sure]), 200, axis=0)
    labels, member = np.repeat([0, 0, 1, 1], 200), np.tile(np.repeat([1, 0], 200), 2)
    victim = np.array([sure, unsure, sure, unsure])
    scores = Shadow()._recognised((answers, labels, member), victim, np.array([0, 0, 1, 1]), RNG(0))
    assert (scores > 0.5).tolist() == [True, False, False, True]


def test_the_whole_vector_is_seen_on_request_and_odds_tell_rows_apart_that_round_to_one() -> None:
    probs = np.array([[1, 1e-9, 2e-9], [1, 1e-12, 2e-12], [0.2, 0.5, 0.3]], np.float32)
    answer, y = Answer(probs.argmax(axis=1), probs), np.array([0, 0, 2])
    odds = Shadow()._features(answer, y, 3)
    assert odds.shape == (3, 1) and odds.dtype == np.float64
    assert odds[2] == pytest.approx(np.log(0.3 / 0.7), abs=1e-6)
    surer = Shadow()._features(Answer(np.array([0, 0]), np.float32([[1, 1e-5, 2e-5], [1, 1e-6, 2e-6]])), y[:2], 3)
    assert surer[1] > surer[0] + 2
    vector = Shadow(sees="vector")._features(answer, y, 3)
    assert np.array_equal(vector[:, :1], odds) and vector[2, 1:] == pytest.approx(np.log(probs[2]))


@pytest.mark.parametrize("probs", [None, np.float32([[1, 0, 0], [1, 0, 0]])], ids=["labels", "no digits"])
def test_odds_tell_right_from_wrong_where_nothing_else_is_told(probs: Array | None) -> None:
    odds = Shadow()._features(Answer(np.array([0, 0]), probs), np.array([0, 1]), 3)
    assert odds[0] > odds[1]


def test_rounding_does_not_help_where_a_class_has_few_rows() -> None:
    """Members are surer; the other probabilities are noise, which attack models of the whole vector learn."""
    classes, each = 10, 12

    def told(rows: int, digits: int) -> tuple[Answer, Array, Array]:
        rng, y, member = RNG(rows), np.arange(rows) % classes, np.arange(rows) // classes % 2
        logits = rng.normal(0, 3, (rows, classes))
        logits[np.arange(rows), y] += 8 + 3 * member
        probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        return Answer(probs.argmax(axis=1), probs.round(digits).astype(np.float32)), y, member

    def area(attack: Shadow, digits: int) -> float:
        learnt, asked = told(2 * each * classes, digits), told(2000, digits)
        of, victim = (attack._features(answer, y, classes) for answer, y, _ in (learnt, asked))
        return float(roc_auc_score(asked[2], attack._recognised((of, *learnt[1:]), victim, asked[1], RNG(0))))

    odds, vector = Shadow(attack_epochs=20), Shadow(sees="vector", attack_epochs=20)
    assert area(odds, 9) > area(odds, 1) - 0.01
    assert area(odds, 9) > area(vector, 9) + 0.01


@pytest.mark.parametrize(("online", "pairs"), [(False, 8 * 800), (True, 8 * 1400)])
def test_the_attack_set_is_balanced_and_leaves_out_candidates_that_trained_no_model(
    online: bool, pairs: int, state: Path, memorised: Network, rows: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned: list[Array] = []
    recognised = Shadow._recognised

    def kept(self: Shadow, attack_set: tuple[Array, Array, Array], *arguments: object) -> Array:
        learned.extend(attack_set)
        return recognised(self, attack_set, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Shadow, "_recognised", kept)
    spied(small(state, online=online, attack_epochs=1), memorised, rows)
    answers, labels, member = learned
    assert answers.shape == (pairs, 1) and len(labels) == pairs and member.mean() == 0.5


@pytest.mark.parametrize(
    ("part", "message"),
    [(slice(0, 0), "has no row of class"), (slice(0, 5), "has no row of class")],
)
def test_a_shadow_pool_that_will_not_do_costs_no_rows(
    part: slice, message: str, state: Path, memorised: Network, rows: Pool
) -> None:
    oracle, record = oracle_of(memorised)
    assert rows.y is not None
    with pytest.raises(BadInput, match=message):
        small(state).infer(oracle, rows.x, rows.y, rows.take(part), RNG(0))
    assert not record.batches


PROBS = np.array([[0.62, 0.24, 0.14], [0.11, 0.21, 0.68]], np.float32)
NAN = np.nan


LIKE = np.array([[0.412345678, 0.323456789, 0.264197533]])
CARD = Card("m", (4,), 3)


@pytest.mark.parametrize(
    ("card", "like", "expected"),
    [
        (CARD, [[0.123456789, 0.3, 0.576543211]], PROBS.tolist()),
        (CARD, [[NAN, 0.312345678, 0.587654321]], [[0.62, 0.24, NAN], [NAN, 0.21, 0.68]]),
        (CARD, [[NAN, 0.3, 0.6]], [[0.6, 0.2, NAN], [NAN, 0.2, 0.7]]),
        (CARD, [[0.0, 0.0, 1.0]], PROBS.tolist()),
        (replace(CARD, digits=1), [[0.0, 0.0, 1.0]], [[0.6, 0.2, 0.1], [0.1, 0.2, 0.7]]),
        (replace(CARD, temperature=0.5), [[0.1, 0.3, 0.61234567]], [[0.833, 0.125, 0.042], [0.023, 0.085, 0.892]]),
    ],
    ids=["full", "top-2", "top-2 rounded", "saturated", "rounded, by the card", "temperature"],
)
def test_ones_own_models_tell_no_more_than_the_victim(
    card: Card, like: list[list[float]], expected: list[list[float]]
) -> None:
    told = blurred(PROBS, card, Answer(np.array([0]), np.array(like)), RNG(0))
    assert told.labels.tolist() == [0, 2]
    assert told.probs == pytest.approx(np.array(expected), abs=1e-3, nan_ok=True)


def test_ones_own_models_tell_labels_where_the_victim_does() -> None:
    told = blurred(PROBS, CARD, Answer(np.array([1])), RNG(0))
    assert told.probs is None and told.labels.tolist() == [0, 2]


def test_noise_is_that_of_the_card() -> None:
    probs = np.tile(np.float32([0.4, 0.35, 0.25]), (4000, 1))
    told = blurred(probs, replace(CARD, noise=0.05), Answer(np.zeros(1, int), LIKE), RNG(0))
    assert told.probs is not None
    noisy = np.maximum(probs + RNG(1).normal(0, 0.05, probs.shape), 0)
    noisy /= noisy.sum(axis=1, keepdims=True)
    assert told.probs.std(axis=0) == pytest.approx(noisy.std(axis=0), rel=0.1)
    assert np.array_equal(told.labels, told.probs.argmax(axis=1))
    assert 0.2 < (told.labels != 0).mean() < 0.3


def test_odds_tell_rows_apart_whose_probability_rounds_to_one() -> None:
    probs = np.float32([[1, 1e-20, 0], [1, 1e-12, 0], [0.9, 0.1, 0]])
    odds = log_odds(Answer(np.zeros(3, int), probs), np.zeros(3, int), 3)
    assert odds == pytest.approx(np.log([1e20, 1e12, 9]), rel=1e-6)
    assert log_odds(Answer(np.zeros(1, int), np.float32([[0.6, 0.3, NAN]])), np.array([2]), 3) == pytest.approx(
        np.log(0.1 / 0.9), rel=1e-6
    )
