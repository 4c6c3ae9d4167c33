"""Inversion: what a class looks like, by confidences and through a surrogate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from reached import reach

from attacker.asking import NotApplicable
from attacker.inversion.evolved import Evolved
from attacker.inversion.inversion import Inversion
from attacker.inversion.mi_face import MiFace
from wire import BadInput
from zoo import folder
from zoo.data.pool import Pool
from zoo.families.mlp import Mlp
from zoo.network import Network
from zoo.training import Training

RNG = np.random.default_rng


@pytest.fixture(scope="module")
def trained(digits: Pool) -> Network:
    assert digits.y is not None
    network = Network.new(Mlp((32,)), digits.input_shape, digits.class_names, seed=0)
    return network.fit(digits.x[:900], digits.y[:900], Training(20, lr=5e-3), seed=0)


@pytest.fixture(scope="module")
def judge(digits: Pool) -> Network:
    """A model of other rows and another architecture."""
    assert digits.y is not None
    network = Network.new(Mlp((64, 32)), digits.input_shape, digits.class_names, seed=1)
    return network.fit(digits.x[900:], digits.y[900:], Training(20, lr=5e-3), seed=1)


def inverted(network: Network, attack: Inversion, label: int) -> np.ndarray:
    oracle, record = reach(network.predict)
    x = attack.invert(oracle, label, RNG(0))
    assert oracle.spent == len(record.rows) > 1
    assert record.rows.min() >= 0 and record.rows.max() <= 1
    assert x.shape == (1, 8, 8) and x.min() >= 0 and x.max() <= 1
    return x


def test_an_independent_model_recognises_the_classes(trained: Network, judge: Network) -> None:
    made = np.stack([inverted(trained, MiFace(waves=8), label) for label in range(10)])
    labels = np.arange(10)
    assert (trained.predict(made)[labels, labels] > 0.9).mean() >= 0.8
    assert (judge.predict(made).argmax(axis=1) == labels).mean() >= 0.6


def test_a_surrogate_gives_the_gradient_for_one_row_a_step(
    trained: Network, judge: Network, tmp_path: Path
) -> None:
    folder.save(judge, tmp_path / "surrogate")
    attack = MiFace(surrogate=tmp_path / "surrogate", steps=40)
    oracle, record = reach(trained.predict)
    x = attack.invert(oracle, 3, RNG(0))
    assert oracle.spent <= 41 and {len(batch) for batch in record.batches} == {1}
    assert trained.predict(x[None])[0, 3] > 0.5


def test_the_gradient_is_that_of_the_confidence(trained: Network) -> None:
    attack = MiFace(directions=2000, waves=8, distance=0.005)
    oracle, _ = reach(trained.predict, max_rows=4096)
    x = np.full((1, 8, 8), 0.5, np.float32)
    found = attack._gradient(oracle, x, 2, (0.0, 1.0), RNG(0))
    true = trained.gradient(x[None], np.array([2]), of="log_probability")[0]
    assert found is not None and np.corrcoef(found.ravel(), true.ravel())[0, 1] > 0.9


def test_the_best_row_is_kept_when_progress_or_the_budget_ends(trained: Network) -> None:
    oracle, record = reach(trained.predict, budget=300)
    x = MiFace(enough=0.0).invert(oracle, 4, RNG(0))
    assert oracle.spent == 300
    asked = [batch[0] for batch in record.batches if len(batch) == 1]
    assert trained.predict(x[None])[0, 4] == max(trained.predict(np.stack(asked))[:, 4])
    constant, record = reach(lambda rows: np.full((len(rows), 10), 0.1, np.float32))
    MiFace(stall=3, directions=2).invert(constant, 0, RNG(0))
    assert constant.spent == 1 + 3 * (2 * 2 + 1)


def test_labels_alone_are_not_enough(trained: Network) -> None:
    oracle, record = reach(trained.predict, tells_probs=False)
    with pytest.raises(NotApplicable):
        MiFace().invert(oracle, 0, RNG(0))
    assert not record.batches


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"enough": 1.0}, {"rate": 0.0}])
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(BadInput):
        MiFace(**wrong)  # type: ignore[arg-type]


def test_evolution_in_a_prior_of_public_rows_is_recognised(
    trained: Network, judge: Network, digits: Pool, tmp_path: Path
) -> None:
    Pool(digits.x[1200:], None).save(tmp_path / "public.npz")
    attack = Evolved(tmp_path / "public.npz", latent=8, hidden=64, epochs=150, generations=30)
    made = np.stack([inverted(trained, attack, label) for label in range(10)])
    assert (judge.predict(made).argmax(axis=1) == np.arange(10)).mean() >= 0.7
    assert (trained.predict(made)[np.arange(10), np.arange(10)] > 0.9).mean() >= 0.7
    again = Evolved(tmp_path / "public.npz", latent=8, hidden=64, epochs=150, generations=30)
    assert np.array_equal(inverted(trained, again, 3), made[3])


def test_evolution_takes_the_best_of_its_answers_and_refuses_other_rows(
    trained: Network, digits: Pool, tmp_path: Path
) -> None:
    Pool(digits.x[1200:], None).save(tmp_path / "public.npz")
    attack = Evolved(tmp_path / "public.npz", latent=4, hidden=16, epochs=1, population=10, enough=0.0)
    oracle, record = reach(trained.predict, budget=25)
    x = attack.invert(oracle, 1, RNG(0))
    told = trained.predict(record.rows)[:, 1]
    assert oracle.spent == 25 and trained.predict(x[None])[0, 1] == pytest.approx(told.max(), abs=1e-5)
    with pytest.raises(NotApplicable):
        attack.invert(reach(trained.predict, tells_probs=False)[0], 1, RNG(0))
    with pytest.raises(BadInput, match="rows are"):
        attack.invert(reach(trained.predict, shape=(1, 4, 4))[0], 1, RNG(0))
    with pytest.raises(BadInput, match="population at least 5"):
        Evolved(tmp_path / "public.npz", population=4)
