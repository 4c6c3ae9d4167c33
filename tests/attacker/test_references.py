"""Attacks with reference models: planted leaks are found, and more information gives no less."""

from __future__ import annotations

import math
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from memorised import EPOCHS, MEMBER, SIZE, oracle_of, settings, spied
from scipy.special import expit
from scipy.stats import norm

from attacker.asking import NotApplicable
from attacker.membership.blind_walk import BlindWalk
from attacker.membership.copies import noisy, shifted
from attacker.membership.gap import Gap
from attacker.membership.label_only import LabelOnly
from attacker.membership.lira import Lira, normal
from attacker.membership.references import Compared, Referenced, halves
from attacker.membership.rmia import Rmia
from attacker.membership.shadow import Shadow
from attacker.membership.threshold import Threshold, _best
from attacker.membership.union import Union
from experiments import metrics
from wire import Answer, BadInput, Card
from zoo.data.pool import Pool
from zoo.network import Network

RNG = np.random.default_rng
BOUND = metrics.null_bound(12, SIZE, SIZE)
ERROR = metrics.auc_error(0.75, SIZE, SIZE)


@pytest.mark.parametrize(
    ("cls", "changed", "least"),
    [
        (Rmia, {}, 0.75),
        (Rmia, {"online": False, "references": 1}, 0.70),
        (Rmia, {"online": False}, 0.70),
        (Lira, {}, 0.72),
        (Lira, {"online": False}, 0.65),
        (LabelOnly, {}, 0.68),
        (LabelOnly, {"online": False, "queries": 4}, 0.66),
        (BlindWalk, {}, 0.68),
        (BlindWalk, {"online": False}, 0.62),
        (Union, {}, 0.72),
        (Threshold, {"online": False}, 0.66),
    ],
    ids=str,
)
def test_a_planted_leak_is_found_and_none_where_there_is_none(
    cls: type[Any],
    changed: dict[str, Any],
    least: float,
    state: Path,
    memorised: Network,
    unseen: Network,
    rows: Pool,
) -> None:
    attack = cls(**settings(state, **changed))
    scores = spied(attack, memorised, rows)
    assert metrics.auc(scores, MEMBER) > least
    assert metrics.auc(scores, MEMBER) > metrics.auc(spied(Gap(), memorised, rows), MEMBER)
    assert abs(metrics.auc(spied(attack, unseen, rows), MEMBER) - 0.5) < BOUND


@pytest.mark.parametrize("cls", [Rmia, Lira, Shadow])
def test_more_information_gives_no_less(cls: type[Any], state: Path, memorised: Network, rows: Pool) -> None:
    attack = cls(**settings(state, online=True))
    full, few = (metrics.auc(spied(attack, memorised, rows, policy), MEMBER) for policy in ("full", "noisy"))
    by_labels = attack if cls is Shadow else LabelOnly(**settings(state))
    labels = metrics.auc(spied(by_labels, memorised, rows, "labels"), MEMBER)
    assert full > few - ERROR
    assert few > labels - ERROR
    assert full > labels


def test_the_modified_entropy_is_that_of_the_paper() -> None:
    p, y = RNG(0).dirichlet(np.ones(4), 6), RNG(1).integers(4, size=6)
    found = Threshold()._signal(Answer(p.argmax(axis=1), p.astype(np.float32)), y, 4)
    for row in range(6):
        true = p[row, y[row]]
        others = sum(q * math.log(1 - q) for i, q in enumerate(p[row]) if i != y[row])
        assert -found[row] == pytest.approx(-(1 - true) * math.log(true) - others, rel=1e-4)


def test_a_threshold_tells_best_and_every_class_has_its_own(state: Path, memorised: Network, rows: Pool) -> None:
    assert _best(np.array([0.1, 0.2, 0.8, 0.9]), np.array([False, False, True, True])) == pytest.approx(0.5)
    attack = Threshold(**settings(state, online=False))
    called = spied(attack, memorised, rows) > attack.threshold
    assert called[MEMBER].mean() > called[~MEMBER].mean() + 0.2


def test_the_union_holds_its_rate_and_finds_what_one_attack_alone_finds(
    state: Path, memorised: Network, unseen: Network, rows: Pool
) -> None:
    attack = Union(**settings(state), fpr=0.1)
    called = spied(attack, unseen, rows) > attack.threshold
    assert 0.02 < called.mean() < 0.2
    found = spied(attack, memorised, rows)
    for alone in (Lira(**settings(state)), Rmia(**settings(state))):
        scores = spied(alone, memorised, rows)
        best = np.argsort(-scores)[:10]  # ahead of the whole population by one attack, and so by the union
        assert (found[best] > attack.threshold).all()


@pytest.mark.parametrize("cls", [Rmia, Lira])
def test_labels_alone_are_not_enough_and_cost_nothing(cls: type[Any], state: Path, memorised: Network) -> None:
    oracle, record = oracle_of(memorised, "labels")
    with pytest.raises(NotApplicable, match="labels only"):
        cls(**settings(state)).infer(oracle, np.zeros((1, 1, 8, 8)), np.zeros(1, int), None, RNG(0))
    assert not record.batches


def test_all_attacks_share_their_references_which_are_trained_once(
    tmp_path: Path, memorised: Network, rows: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[int] = []
    fit = Network.fit

    def counted(self: Network, x: Any, *arguments: Any, **options: Any) -> Network:
        trained.append(len(x))
        return fit(self, x, *arguments, **options)

    monkeypatch.setattr(Network, "fit", counted)
    few = settings(tmp_path, references=4, epochs=(2,))
    first = spied(Rmia(**few), memorised, rows)
    assert trained == 4 * [700]  # half of 600 candidates and 800 rows of the shadow pool
    spied(Lira(**few), memorised, rows)
    spied(LabelOnly(**few), memorised, rows)
    assert np.array_equal(first, spied(Rmia(**few), memorised, rows))
    assert len(trained) == 4
    spied(Rmia(**{**few, "online": False}), memorised, rows)
    assert trained[4:] == 4 * [400]


def test_every_row_trains_one_model_of_each_pair() -> None:
    member, seeds = halves(5, 90, RNG(0))
    assert member.sum(axis=1).tolist() == 5 * [45]
    for first in (0, 2):
        assert np.array_equal(member[first], ~member[first + 1])
    assert not np.array_equal(member[0], member[2])
    fewer = halves(2, 90, RNG(0))
    assert np.array_equal(fewer[0], member[:2]) and fewer[1] == seeds[:2]


@pytest.mark.parametrize("epochs", [4, EPOCHS])
def test_references_are_trained_as_the_victim_was(
    epochs: int, state: Path, rows: Pool, memorised: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    attack = Rmia(**settings(state, references=2, online=False, epochs=(4, 15, EPOCHS)))
    victim = memorised if epochs == EPOCHS else _short(rows)
    used: list[int] = []
    train = Referenced._train

    def kept(self: Referenced, rows: Any, member: Any, seeds: Any, training: Any) -> Any:
        used.append(training.epochs)
        return train(self, rows, member, seeds, training)

    monkeypatch.setattr(Referenced, "_train", kept)
    spied(attack, victim, rows)
    assert used[:3] == [4, 15, EPOCHS]
    assert used[3] == epochs


def _short(rows: Pool) -> Network:
    from zoo.families.mlp import Mlp
    from zoo.training import Training

    assert rows.y is not None
    network = Network.new(Mlp(), rows.input_shape, rows.class_names, seed=3)
    return network.fit(rows.x[:SIZE], rows.y[:SIZE], Training(4, lr=5e-3), seed=3)


def test_rows_are_billed_and_an_early_end_leaves_nan(state: Path, memorised: Network, rows: Pool) -> None:
    candidates, shadow = rows.take(slice(2 * SIZE)), rows.take(slice(2 * SIZE, 1400))
    oracle, record = oracle_of(memorised)
    oracle._budget = 401
    attack = LabelOnly(**settings(state, population=100, queries=2))
    assert candidates.y is not None
    scores = attack.infer(oracle, candidates.x, candidates.y, shadow, RNG(0))
    assert oracle.spent == len(record.rows) == 401
    assert np.isfinite(scores).sum() == 150  # with 50 rows of the population, twice each


def test_the_score_of_rmia_is_the_share_of_pairs_whose_likelihood_ratio_is_great() -> None:
    rng = RNG(0)
    victim, references, member = rng.normal(0, 3, 30), rng.normal(0, 3, (4, 30)), halves(4, 30, rng)[0]
    p, of = expit(victim / 2), expit(references / 2)
    for attack in (Rmia(gamma=1.2), Rmia(gamma=1.2, online=False)):
        ratios = attack._ratios(victim, references, member, 0.3, 2.0)
        scores = attack._exceeded(ratios, ratios[:20])
        for x in range(20, 30):
            pairs = []
            for z in range(20):
                likelihoods = []
                for row in (x, z):
                    out = np.mean([of[n, row] for n in range(4) if not member[n, row]])
                    inside = np.mean([of[n, row] for n in range(4) if member[n, row]])
                    marginal = (inside + out) / 2 if attack.online else ((1 + 0.3) * out + (1 - 0.3)) / 2
                    likelihoods.append(p[row] / marginal)
                pairs.append(likelihoods[0] / likelihoods[1] >= 1.2)
            assert np.mean(pairs) <= scores[x] < np.mean(pairs) + 1 / 20


def test_rmia_chooses_a_and_the_temperature_without_the_victim(state: Path) -> None:
    rng = RNG(1)
    member = halves(6, 4000, rng)[0]
    hardness = rng.normal(0, 2, 4000)
    references = hardness + 3 * member + rng.normal(0, 1, member.shape)
    a, temperature = Rmia(**settings(state, references=6, online=False))._chosen(references, member)
    assert 0 <= a < 1 and temperature in (1.0, 2.0, 4.0)
    assert Rmia(references=6, online=False, a=0.4, temperature=3.0)._chosen(references, member) == (0.4, 3.0)
    assert Rmia(references=2, online=False)._chosen(references[:2], member[:2]) == (0.3, 2.0)


def test_the_score_of_lira_is_the_ratio_of_two_normal_densities() -> None:
    rng = RNG(0)
    references, member = rng.normal(0, 3, (6, 9, 2)), halves(6, 9, rng)[0]
    for alike in (False, True):
        mean, deviation = normal(references, member, alike)
        for row in range(9):
            inside = references[member[:, row], row, 1]
            assert mean[row, 1] == pytest.approx(inside.mean())
            if not alike:
                assert deviation[row, 1] == pytest.approx(inside.std(ddof=1))
        assert not alike or np.ptp(deviation[:, 1]) == 0
    assert norm.logpdf(1.0, *(part[0, 0] for part in (mean, deviation))) < 0


def test_the_values_of_lira_are_those_of_the_paper_s_equations() -> None:
    """Plain loops over rows and models: equation 4 online, and the one-sided tail offline, with own variances."""
    rng, n, k = RNG(0), 12, 3
    answers = [
        Answer(probs.argmax(axis=1), probs) for probs in rng.dirichlet(np.ones(k), (9, n)).astype(np.float32)
    ]
    victim, *references = answers
    y, member = rng.integers(k, size=n), halves(8, n, rng)[0]
    found = Compared(np.arange(n), 0, k, y, 1, victim, references, member)

    def phi(answer: Answer, row: int) -> float:
        assert answer.probs is not None
        p = answer.probs[row].astype(float) / answer.probs[row].astype(float).sum()
        return math.log(p[y[row]]) - math.log(sum(p[i] for i in range(k) if i != y[row]))

    for online in (True, False):
        values = Lira(references=8, variance="own", online=online).values(found)
        for row in range(n):
            parts = []
            for side in (True, False):
                phis = [phi(references[i], row) for i in range(8) if member[i, row] == side]
                mean, deviation = statistics.mean(phis), statistics.stdev(phis)
                parts.append((mean, deviation, statistics.NormalDist(mean, deviation)))
            at = phi(victim, row)
            if online:
                expected = math.log(parts[0][2].pdf(at)) - math.log(parts[1][2].pdf(at))
            else:
                expected = -math.log(1 - parts[1][2].cdf(at))
            assert values[row] == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_a_walk_doubles_its_steps_and_ends_at_the_first_wrong_label() -> None:
    attack, x = BlindWalk(walks=1, steps=3, distance=0.1), RNG(0).random((2, 30), dtype=np.float32)
    walks = (attack.copied(Card("m", (30,), 2, low=None, high=None), x).reshape(2, 10, 30) - x[:, None])[
        :, 1:
    ].reshape(2, 3, 3, 30)
    assert np.allclose(walks[:, :, 1:], 2 * walks[:, :, :-1], atol=1e-6)
    assert np.abs(walks[:, 0, 0]).max() <= 0.1 * 3**0.5 + 1e-6  # uniform
    bounded = attack.copied(Card("m", (30,), 2, low=0.0, high=1.0), x)
    assert bounded.min() >= 0 and bounded.max() <= 1
    assert np.array_equal(bounded[10:], attack.copied(Card("m", (30,), 2, low=0.0, high=1.0), x[1:]))
    rights = np.array([[1, 1, 1, 1, 1, 0, 1, 0, 1, 1], [0, 1, 1, 1, 1, 1, 1, 1, 1, 1]], float)
    assert attack._length(rights).tolist() == [[1 + (3 + 1 + 0) / 3], [0]]


def test_copies_begin_with_the_row_itself() -> None:
    x = RNG(0).random((3, 1, 6, 6), dtype=np.float32)
    copies = shifted(x, 5).reshape(3, 5, 1, 6, 6)
    assert np.array_equal(copies[:, 0], x)
    assert np.array_equal(copies[0, 1, 0, 1:], x[0, 0, :-1]) or np.array_equal(copies[0, 1, 0, :-1], x[0, 0, 1:])
    card = Card("m", (1, 6, 6), 2)
    noise = noisy(x, 4, 0.5, card).reshape(3, 4, 1, 6, 6)
    assert np.array_equal(noise[:, 0], x) and noise.min() >= 0 and noise.max() <= 1
    assert np.array_equal(noise[2:], noisy(x[2:], 4, 0.5, card).reshape(1, 4, 1, 6, 6))
    with pytest.raises(BadInput, match="expected images"):
        shifted(np.zeros((2, 5)), 3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Rmia(references=0), "must be at least 1"),
        (lambda: Rmia(epochs=()), "must be at least 1"),
        (lambda: Rmia(references=1), "references must be at least 2"),
        (lambda: Rmia(a=1.5), "a between 0 and 1"),
        (lambda: Lira(references=3), "references at least 4"),
        (lambda: Union(fpr=1.0), "fpr must lie between"),
        (lambda: LabelOnly(noise=0.0), "noise must be positive"),
        (lambda: BlindWalk(steps=0), "steps and distance must be positive"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        make()
