"""The claims about membership inference, small: digits over HTTP."""

import json

import numpy as np
import pytest

from attacker.inversion.mi_face import MiFace
from experiments.claims.command import reproduce, table
from experiments.claims.faces import E10
from experiments.claims.labels_alone import E8, E9
from experiments.claims.mitigations import ANSWERS, E5, MEMGUARD, PUBLISHED, TRAININGS
from experiments.claims.overfitting import E2
from experiments.claims.shadow_data import E3
from experiments.claims.spying import Division, encoded, entropy
from experiments.claims.training_size import E1, _precisions
from experiments.report.drawings import draw
from wire import BadInput, Feature
from zoo.data import Pool

RNG = np.random.default_rng
SMALL = {"references": 2, "choices": (5,), "attack_epochs": 2}


def test_a_division_gives_each_row_to_one_side():
    pool = Pool(np.arange(100, dtype=np.float32)[:, None], np.zeros(100, np.int64), ("a",))
    division = Division.of(pool, 20, 50, seed=1)
    held = [set(part.x[:, 0]) for part in (division.members, division.others, division.shadow)]
    assert [len(part) for part in held] == [20, 20, 50] and len(set.union(*held)) == 90
    assert {*division.candidates.x[division.member, 0]} == held[0]
    assert {*division.unrelated.x[:, 0]} < held[2]


def test_a_table_becomes_numbers():
    features = (Feature("age"), Feature("kind", ("a", "b", "c")))
    x = np.array([[20, 0], [40, 2], [np.nan, np.nan]], np.float32)
    found = encoded(Pool(x, missing=True, features=features))
    assert np.array_equal(found.x, [[0, 1, 0, 0], [1, 0, 0, 1], [0, 0, 0, 0]])
    assert not found.missing and not found.features


def test_entropy_is_normalised():
    assert np.allclose(entropy(np.array([[0.25] * 4, [1, 0, 0, 0], [0.5, 0.5, 0, 0]])), [1, 0, 0.5])


def run(claim, tmp_path):
    results = reproduce(
        {claim.ID: claim}, out=tmp_path / "out", cache=tmp_path / "cache", data=None, seeds=range(1)
    )
    assert table(results)
    return json.loads(json.dumps(results))


@pytest.mark.slow
def test_every_mitigation_is_measured_beside_its_null(tmp_path):
    pytest.importorskip("opacus")
    results = run(E5(data="digits", rows=200, shadow=600, population=60, epochs=5, **SMALL), tmp_path)
    more = results["claims"]["E5"]["more"]
    assert set(more["measured"]) == {*ANSWERS, MEMGUARD, *TRAININGS} > set(PUBLISHED)
    assert "rmia" in more["measured"]["none"] and "rmia" not in more["measured"]["label only"]
    assert any("epsilon" in note for note in results["claims"]["E5"]["notes"])


def test_mitigations_that_there_are_not_are_refused():
    assert E5(mitigations=("top-1", "DP-SGD")).mitigations
    with pytest.raises(BadInput, match="rounding to 1 digit"):
        E5(mitigations=("prayer",))


@pytest.mark.slow
def test_overfitting_is_measured_and_drawn(tmp_path):
    claim = E2(data=("digits",), rows=(200,), shadow=(600,), epochs=(5,), population=60, **SMALL)
    results = run(claim, tmp_path)
    rows = {row["what"]: row for row in results["claims"]["E2"]["rows"]}
    assert rows["training accuracy"]["measured"] > rows["test accuracy"]["measured"]
    assert sum(results["claims"]["E2"]["more"]["entropies"]["digits"]["members"]) == pytest.approx(1)
    draw(results, tmp_path / "entropies.svg")
    assert "non-members" in (tmp_path / "entropies.svg").read_text()


@pytest.mark.slow
def test_shadow_data_comes_from_five_sources(tmp_path):
    results = run(E3(data="digits", rows=200, shadow=300, epochs=5, steps=100, confidence=0.0, **SMALL), tmp_path)
    measured = results["claims"]["E3"]["more"]["measured"]
    assert set(measured) == {"real", "marginals", "synthesised", "10% flipped", "20% flipped"}
    billed = [row for row in results["claims"]["E3"]["rows"] if "billed" in row["what"]]
    assert [row["measured"] > 0 for row in billed] == [False, True, True, False, False]


def test_a_precision_is_that_of_the_rows_called_members_in_a_class():
    pool = Pool(np.zeros((6, 1), np.float32), np.array([0, 0, 0, 1, 1, 2]), ("a", "b", "c"))
    division = Division(pool, pool, pool, pool, np.array([1, 0, 1, 1, 0, 0], bool), 0)
    found = _precisions(np.array([1, 1, 1, 1, 0, 0], bool), division)
    assert found == {"each": {"a": 2 / 3, "b": 1.0}, "median": pytest.approx(5 / 6)}
    assert _precisions(np.zeros(6, bool), division) == {"each": {}, "median": None}


@pytest.mark.slow
def test_labels_alone_stand_beside_confidences_and_walks(tmp_path):
    sizes = {"data": ("digits",), "rows": (200,), "shadow": (600,), "epochs": (20,), "references": 4, "queries": 2}
    for claim, attack in ((E8(**sizes), "label-only, one row"), (E9(**sizes, walks=1, steps=2), "blind walk")):
        measured = run(claim, tmp_path / claim.ID)["claims"][claim.ID]["more"]["measured"]["digits"]["0"]
        assert {"gap", "LiRA, confidences", "label-only", attack} <= set(measured)


@pytest.mark.slow
def test_victims_grow(tmp_path):
    claim = E1(data="digits", sizes=(100, 200), family="mlp", epochs=20, references=2, attack_epochs=5)
    rows = [row for row in run(claim, tmp_path)["claims"]["E1"]["rows"] if "median of the classes" in row["what"]]
    assert [row["published"] for row in rows] == ["none", "none"]
    assert all(0 <= row["measured"] <= 1 for row in rows)


@pytest.mark.slow
def test_images_of_classes_stand_beside_baselines_and_are_drawn(tmp_path):
    results = run(E10(data="digits", rows=300, epochs=5, budget=100, attack=MiFace(steps=4, waves=8)), tmp_path)
    found = results["claims"]["E10"]
    rows = {(row["setting"].rpartition("row by ")[2], row["what"]): row["measured"] for row in found["rows"]}
    assert rows["mean of the class", "distance to the class's mean"] == 0
    assert rows["surrogate", "rows billed"] <= 100 + 10 * 5 < rows["confidences", "rows billed"]
    draw(results, tmp_path / "faces.png")
    assert (tmp_path / "faces.png").stat().st_size > 1000


def test_other_results_are_not_drawn(tmp_path):
    with pytest.raises(BadInput, match="E2 or E10"):
        draw({"claims": {"E5": {}}}, tmp_path / "none.svg")
