"""The thief who knows the defence."""

from __future__ import annotations

import numpy as np
import pytest
from reached import reach

from attacker import Informed, Knockoff
from attacker.extraction import imitations
from attacker.extraction.recovery import d_dae, likely, partial_bayes
from wire import Array, BadInput
from zoo.data.pool import Pool
from zoo.network import Network

RNG = np.random.default_rng(0)
Y = RNG.dirichlet(np.full(6, 0.3), 4000)


@pytest.mark.parametrize("name", imitations.IMITATIONS)
@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_an_imitation_tells_distributions_and_leaves_the_answer_as_it_is(name: str, strength: float) -> None:
    before = Y.copy()
    told = imitations.IMITATIONS[name](Y, strength, np.random.default_rng(1))  # type: ignore[index]
    assert told.shape == Y.shape and told.min() >= 0 and np.allclose(told.sum(axis=1), 1)
    assert np.array_equal(Y, before) and not np.array_equal(told, before)


def test_imitations_do_what_the_papers_say() -> None:
    rng = np.random.default_rng(0)
    y = np.array([[0.62, 0.3, 0.08]])
    assert np.allclose(imitations.rounding(y, 1, rng), [[0.6, 0.3, 0.1]])
    assert np.allclose(imitations.top_k(y, 1, rng), [[0.62, 0.19, 0.19]])
    assert (
        np.allclose(np.sort(imitations.flips(y, 1.0, rng)), np.sort(y))
        and imitations.flips(y, 1, rng)[0, 0] < 0.62
    )
    assert np.abs(imitations.bounded(y, 0.4, rng) - y).sum() == pytest.approx(0.4)
    assert np.array_equal(imitations.misinformation(y, 0.6, rng), y)
    assert imitations.reverse_sigmoid(y, 0.3, rng)[0, 0] < 0.62
    changed = imitations.deceive(Y, 1.0, rng)
    assert np.allclose(np.sort(changed), np.sort(Y)) and 0.2 < (changed.argmax(1) == Y.argmax(1)).mean() < 0.5


@pytest.mark.parametrize(
    ("recover", "name", "strength"),
    [(partial_bayes, "reverse_sigmoid", 0.9), (d_dae, "reverse_sigmoid", 0.9), (partial_bayes, "bounded", 1.0)],
)
def test_recovered_answers_are_nearer_to_the_true_ones(recover, name: str, strength: float) -> None:  # type: ignore[no-untyped-def]
    change = imitations.IMITATIONS[name]  # type: ignore[index]
    others = np.random.default_rng(1).dirichlet(np.full(6, 0.3), 2000).astype(np.float32)
    pairs = others, change(others.astype(float), strength, RNG).astype(np.float32)
    told = change(Y, strength, RNG).astype(np.float32)
    recovered = recover(told, *pairs)
    assert np.allclose(recovered.sum(axis=1), 1, atol=1e-4)
    before, after = (np.abs(part - Y).sum(axis=1).mean() for part in (told, recovered))
    assert after < 0.75 * before


def test_rows_that_a_surrogate_contradicts_are_dropped() -> None:
    truth = np.eye(4)[np.arange(100) % 4]
    told = truth.copy()
    told[:10] = np.roll(told[:10], 1, axis=1)
    kept = likely(told, 0.9 * truth + 0.025, 0.1)
    assert np.array_equal(np.flatnonzero(~kept), np.arange(10))


def agreement(attack: Informed | Knockoff, victim: Network, told, digits: Pool) -> float:  # type: ignore[no-untyped-def]
    oracle, recorder = reach(told)
    pool = digits.take(slice(0, 1000))
    surrogate = attack.extract(oracle, pool, np.random.default_rng(0))
    assert len(recorder.rows) == oracle.spent == 1000
    x = digits.x[1000:]
    return float((surrogate.predict(x).argmax(1) == victim.predict(x).argmax(1)).mean())


def test_labels_that_lie_are_overcome_by_dropping_and_smoothing(victim: Network, digits: Pool) -> None:
    def flipped(x: Array) -> Array:
        return imitations.flips(victim.predict(x), 0.4, np.random.default_rng(5))

    settings = {"family": "mlp", "epochs": 30}
    naive, dropping, smoothing = (
        agreement(attack, victim, flipped, digits)
        for attack in (
            Informed("top_1", **settings),  # type: ignore[arg-type]
            Informed("top_1", drop=0.4, **settings),  # type: ignore[arg-type]
            Informed("smoothing", "flips", 0.4, **settings),  # type: ignore[arg-type]
        )
    )
    assert dropping > naive and smoothing > naive


@pytest.mark.parametrize("recover", ["none", "top_1", "smoothing", "partial_bayes", "d_dae"])
def test_every_recovery_steals(recover: str, victim: Network, digits: Pool) -> None:
    attack = Informed(recover, "noise", 0.1, family="mlp", epochs=15)  # type: ignore[arg-type]
    assert agreement(attack, victim, victim.predict, digits) > 0.8


@pytest.mark.parametrize("wrong", [{"drop": 1.0}, {"strength": 0.0}, {"recover": "smoothing", "strength": 1.0}])
def test_settings_without_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(BadInput):
        Informed(**wrong)  # type: ignore[arg-type]
