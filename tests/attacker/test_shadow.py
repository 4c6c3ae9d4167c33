from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from reached import reach
from sklearn.metrics import roc_auc_score

from attacker import Shadow
from attacker.membership.match_policy import disclose, features
from wire import Answer, Array, BadInput
from zoo.data.pool import Pool
from zoo.families.mlp import Mlp
from zoo.network import Network
from zoo.training import Training

RNG = np.random.default_rng
SIZE = 150  # of the overfit victim's training set, and of its shadows'
SMALL = Shadow(shadows=4, size=SIZE, family="mlp", epochs=60, lr=0.005, attack_epochs=20)


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state folder that the attacks of this file share, so that their shadow models are trained once."""
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def noisy(digits: Pool) -> Pool:
    """Digits of which a fifth has a wrong label, so that a model that fits them has learned them by heart."""
    assert digits.y is not None
    rng = RNG(7)
    wrong = rng.random(len(digits)) < 0.2
    return Pool(digits.x, np.where(wrong, rng.integers(10, size=len(digits)), digits.y), digits.class_names)


@pytest.fixture(scope="module")
def overfit(noisy: Pool) -> Network:
    """A victim that has learned rows 0 to 150 by heart."""
    assert noisy.y is not None
    network = Network.new(Mlp(), noisy.input_shape, noisy.class_names, seed=3)
    return network.fit(noisy.x[:SIZE], noisy.y[:SIZE], Training(epochs=60, batch=64, lr=0.005), seed=3)


def settings(state: Path, **changed: object) -> Shadow:
    return Shadow(**{**vars(SMALL), "state": state, **changed})  # type: ignore[arg-type]


def attacked(attack: Shadow, victim: Network, noisy: Pool, rows: Array, **how: object) -> Array:
    """Returns the scores of some rows; the shadow pool is rows 900 on."""
    candidates = noisy.take(rows)
    assert candidates.y is not None
    oracle, _ = reach(victim.predict, max_rows=256, **how)  # type: ignore[arg-type]
    return attack.infer(oracle, candidates.x, candidates.y, noisy.take(slice(900, None)), RNG(0))


MEMBERS_AND_OTHERS = np.arange(2 * SIZE)
MEMBER = MEMBERS_AND_OTHERS < SIZE


@pytest.mark.parametrize(
    ("how", "least"), [({}, 0.65), ({"top_k": 3}, 0.65), ({"tells_probs": False}, 0.58)], ids=str
)
def test_members_of_an_overfit_model_are_told_from_others(
    how: dict[str, object], least: float, state: Path, overfit: Network, noisy: Pool
) -> None:
    scores = attacked(settings(state), overfit, noisy, MEMBERS_AND_OTHERS, **how)
    assert np.isfinite(scores).all()
    assert roc_auc_score(MEMBER, scores) > least


def test_rows_that_the_model_never_saw_are_not_told_apart(state: Path, overfit: Network, noisy: Pool) -> None:
    unseen = np.arange(SIZE, 900)
    scores = attacked(settings(state), overfit, noisy, unseen)
    assert roc_auc_score(unseen < unseen.mean(), scores) == pytest.approx(0.5, abs=0.07)


def test_shadow_models_are_trained_once(
    tmp_path: Path, overfit: Network, noisy: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    attack = settings(tmp_path, shadows=2, epochs=2, attack_epochs=2)
    trained: list[str] = []
    fit = Network.fit

    def counted(self: Network, *arguments: object, label: str = "", **options: object) -> Network:
        trained.append(label)
        return fit(self, *arguments, label=label, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Network, "fit", counted)
    first = attacked(attack, overfit, noisy, MEMBERS_AND_OTHERS)
    assert [label for label in trained if label.startswith("shadow")] == ["shadow 1/2", "shadow 2/2"]
    trained.clear()
    second = attacked(attack, overfit, noisy, MEMBERS_AND_OTHERS)
    assert not [label for label in trained if label.startswith("shadow")]
    assert np.array_equal(first, second)
    attacked(settings(tmp_path, shadows=2, epochs=3, attack_epochs=2), overfit, noisy, MEMBERS_AND_OTHERS)
    assert [label for label in trained if label.startswith("shadow")] == ["shadow 1/2", "shadow 2/2"]


def test_each_class_has_an_attack_model_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # In class 0 members are told surely and others are not; in class 1 it is the other way round.
    sure, unsure = [0.95, 0.05], [0.6, 0.4]
    rng = RNG(0)
    probs = np.repeat(np.array([sure, unsure, unsure, sure], np.float32), 200, axis=0)
    labels, member = np.repeat([0, 0, 1, 1], 200), np.tile(np.repeat([1, 0], 200), 2)
    monkeypatch.setattr(Shadow, "_outputs", lambda self, *of: (probs, labels, member))
    oracle, _ = reach(lambda x: x, shape=(2,), classes=2)
    pool = Pool(rng.random((8, 2), dtype=np.float32), np.arange(8) % 2)
    candidates = np.array([sure, unsure, sure, unsure], np.float32)
    scores = Shadow(shadows=1, state=tmp_path).infer(oracle, candidates, np.array([0, 0, 1, 1]), pool, RNG(0))
    assert (scores > 0.5).tolist() == [True, False, False, True]


@pytest.mark.parametrize(
    ("how", "told"), [({}, 10), ({"top_k": 3}, 3), ({"tells_probs": False}, 1)], ids=["full", "top-3", "label"]
)
def test_attack_models_learn_from_what_the_victim_tells(
    how: dict[str, object], told: int, state: Path, overfit: Network, noisy: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned: list[Array] = []
    train = Shadow._attack_model

    def kept(self: Shadow, told: Array, *arguments: object) -> Network:
        learned.append(told)
        return train(self, told, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Shadow, "_attack_model", kept)
    attacked(settings(state, attack_epochs=1), overfit, noisy, MEMBERS_AND_OTHERS, **how)
    assert len(learned) == 10
    assert sum(len(rows) for rows in learned) == SMALL.shadows * 2 * SIZE
    assert {int(count) for rows in learned for count in (rows > 0).sum(axis=1)} == {told}


def test_an_early_end_leaves_nan(state: Path, overfit: Network, noisy: Pool) -> None:
    scores = attacked(settings(state), overfit, noisy, MEMBERS_AND_OTHERS, budget=200)
    assert np.isfinite(scores).sum() == 200
    assert not np.isfinite(scores[:200]).all()


@pytest.mark.parametrize(
    ("size", "rows", "message"),
    [
        (None, slice(0, 0), "need a shadow pool of at least 2 labelled rows, not 0"),
        (
            60,
            slice(0, 100),
            "models with 60 training rows need a shadow pool of at least 120 labelled rows, not 100",
        ),
        (1, slice(0, 2), "the shadow models' rows have no row of class"),
    ],
)
def test_a_shadow_pool_that_will_not_do_costs_no_rows(
    size: int | None, rows: slice, message: str, state: Path, overfit: Network, noisy: Pool
) -> None:
    oracle, record = reach(overfit.predict)
    assert noisy.y is not None
    with pytest.raises(BadInput, match=message):
        settings(state, size=size).infer(oracle, noisy.x, noisy.y, noisy.take(rows), RNG(0))
    assert not record.batches


PROBS = np.array([[0.62, 0.24, 0.14], [0.11, 0.21, 0.68]], np.float32)
NAN = np.nan


@pytest.mark.parametrize(
    ("like", "expected"),
    [
        (Answer(np.array([0]), np.array([[0.123456, 0.3, 0.576544]])), PROBS.tolist()),
        (Answer(np.array([2]), np.array([[NAN, 0.312345, 0.587654]])), [[0.62, 0.24, 0], [0, 0.21, 0.68]]),
        (Answer(np.array([2]), np.array([[NAN, 0.3, 0.6]])), [[0.6, 0.2, 0], [0, 0.2, 0.7]]),
        (Answer(np.array([1])), [[1, 0, 0], [0, 0, 1]]),
    ],
    ids=["full", "top-2", "top-2 rounded", "label"],
)
def test_ones_own_models_tell_no_more_than_the_victim(like: Answer, expected: list[list[float]]) -> None:
    told = disclose(PROBS, like)
    assert told.labels.tolist() == [0, 2]
    assert features(told, 3) == pytest.approx(np.array(expected), abs=1e-6)
