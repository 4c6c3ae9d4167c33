"""What learns without gradients answers as scikit-learn does, and believes no file."""

import hashlib
import json
import warnings

import numpy as np
import pytest
import torch
from kinds import images, sentences, table, trained
from safetensors.torch import load as read_weights
from safetensors.torch import save as write_weights
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier

from wire import BadInput, Feature
from zoo import folder
from zoo.data.pool import Pool
from zoo.families import FITTED
from zoo.families.gbdt import Gbdt
from zoo.families.knn import Knn
from zoo.families.svm import Svm
from zoo.families.text import Tfidf
from zoo.families.trees import Forest, Tree
from zoo.folder import CARD, WEIGHTS
from zoo.recipe import Recipe


def platt(machine):
    return CalibratedClassifierCV(
        OneVsRestClassifier(machine), cv=StratifiedKFold(3, shuffle=True, random_state=0), ensemble=False
    )


BOOSTED = {"max_iter": 9, "early_stopping": False, "random_state": 0}
TRUTH = {
    "svm": platt(SVC(gamma=1 / (64 * float(images().x.var())))),
    "svm-two": platt(SVC(gamma=1 / (64 * float(images(names=("a", "b")).x.var())))),
    "svm-linear": platt(LinearSVC(max_iter=100_000, random_state=0)),
    "svm-linear-two": platt(LinearSVC(max_iter=100_000, random_state=0)),
    "tree": DecisionTreeClassifier(random_state=0),
    "tree-images": DecisionTreeClassifier(max_depth=3, random_state=0),
    "forest": RandomForestClassifier(7, random_state=0),
    "forest-images": RandomForestClassifier(7, random_state=0),
    "gbdt": HistGradientBoostingClassifier(categorical_features=[1], **BOOSTED),
    "gbdt-images": HistGradientBoostingClassifier(**BOOSTED | {"max_iter": 3}),
    "knn": KNeighborsClassifier(3),
    "tfidf": make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(C=4.0)),
    "tfidf-two": make_pipeline(TfidfVectorizer(sublinear_tf=True), LogisticRegression(C=4.0)),
}


@pytest.mark.parametrize("kind", TRUTH)
def test_the_answers_are_scikit_learn_s(kind):
    model, pool = trained(kind)
    fresh = {"table": table, "images": images, "texts": sentences}[
        "texts" if pool.dtype == "BYTES" else "table" if pool.features else "images"
    ](200, seed=1)

    def flat(x):
        return x if pool.dtype == "BYTES" else x.reshape(len(x), -1)

    truth = TRUTH[kind].fit(flat(pool.x), pool.y).predict_proba(flat(fresh.x))
    np.testing.assert_allclose(model.predict(fresh.x), truth, atol=2e-6)


def test_every_learner_is_compared():
    assert {kind.partition("-")[0] for kind in TRUTH} == {*FITTED, "tfidf"}


def test_a_code_that_no_training_row_had_is_as_if_missing():
    pool = table()
    seen = pool.take(pool.x[:, 1] != 2)
    model = Recipe(Gbdt(rounds=9)).train(seen)
    unseen, missing = np.array([[40, 2, 5]], np.float32), np.array([[40, np.nan, 5]], np.float32)
    np.testing.assert_array_equal(model.predict(unseen), model.predict(missing))


def test_too_many_categories_are_refused():
    x = np.arange(300, dtype=np.float32)[:, None]
    feature = Feature("place", tuple(map(str, range(300))))
    with pytest.raises(BadInput, match="300 categories; at most 255"):
        Recipe(Gbdt()).train(Pool(x, (x[:, 0] > 150).astype(np.int64), ("a", "b"), features=(feature,)))


@pytest.mark.parametrize("kind", ["svm", "forest", "gbdt"])
def test_a_seed_is_not_the_clock_s(kind):
    numbers = np.random.get_state()[1]  # noqa: NPY002
    trained(kind)
    np.testing.assert_array_equal(np.random.get_state()[1], numbers)  # noqa: NPY002


@pytest.mark.parametrize(
    "made",
    [
        lambda: Svm(c=0),
        lambda: Knn(0),
        lambda: Tree(depth=0),
        lambda: Forest(trees=0),
        lambda: Gbdt(leaves=1),
        lambda: Gbdt(lr=float("nan")),
        lambda: Tfidf(words=0),
    ],
)
def test_fields_without_sense_are_refused(made):
    with pytest.raises(BadInput, match="must "):
        made()


def test_more_neighbours_than_rows_are_refused():
    with pytest.raises(BadInput, match="60 rows are fewer than 61 neighbours"):
        Recipe(Knn(61)).train(images())


def test_texts_without_words_are_refused():
    pool = sentences()
    with warnings.catch_warnings(), pytest.raises(BadInput, match="nothing can be learnt from these texts"):
        Recipe(Tfidf()).train(Pool(np.array(["."] * len(pool), dtype=object), pool.y, pool.class_names))


def changed(kind, change, path):
    """Saves a model whose weights somebody changed, and whose card tells their hash rightly."""
    model, _ = trained(kind)
    folder.save(model, path)
    content = write_weights(change(read_weights((path / WEIGHTS).read_bytes())))
    (path / WEIGHTS).write_bytes(content)
    card = json.loads((path / CARD).read_text()) | {"sha256": hashlib.sha256(content).hexdigest()}
    (path / CARD).write_text(json.dumps(card))
    return path


def with_value(name, index, value):
    def change(weights):
        weights[name] = weights[name].clone()
        weights[name][index] = value
        return weights

    return change


@pytest.mark.parametrize(
    ("kind", "change", "fault"),
    [
        ("tree", with_value("left", 0, 10**9), "tensor left holds indices .*out of range for"),
        ("tree", with_value("left", 0, -1), "tensor left holds indices .*out of range for"),
        (
            "forest",
            with_value("right", 3, 1),
            "tensor right holds indices .*out of range for",
        ),  # back up: a walk without an end
        ("tree", with_value("feature", 0, 3), "tensor feature holds indices .*out of range for 3"),
        ("gbdt", with_value("choice", 0, 10**6), "tensor choice holds indices .*out of range for"),
        ("gbdt", with_value("root", 0, -2), "tensor root holds indices .*out of range for"),
        ("gbdt", with_value("value", (0, 0), float("inf")), "tensor value is not finite"),
        ("knn", with_value("labels", 0, 3), "tensor labels holds indices .*out of range for 3"),
        (
            "knn",
            lambda w: {name: tensor[:2].clone() for name, tensor in w.items()},
            "2 rows are fewer than 3",
        ),
        ("svm", lambda w: w | {"weight": w["weight"][:, :1].clone()}, r"tensor (weight|support) is"),
        ("svm", lambda w: w | {"gamma": w["gamma"].float()}, r"tensor gamma is \(1,\) torch.float32"),
        ("tfidf", lambda w: w | {"terms": w["terms"][:-1].clone()}, "tensor terms is not JSON"),
        ("tfidf", lambda w: w | {"terms": torch.tensor(list(b"[1]"), dtype=torch.uint8)}, "different strings"),
        ("tree", lambda w: {}, "missing tensors: .*base"),
        ("tree", lambda w: w | {"more": w["base"].clone()}, "unknown to the card's family: .*more"),
        ("tree", lambda w: {n: t[:0].clone() if t.ndim and n != "base" else t for n, t in w.items()}, "no trees"),
    ],
)
def test_a_hostile_file_is_refused(kind, change, fault, tmp_path):
    with pytest.raises(BadInput, match=rf"weights\.safetensors: .*{fault}"):
        folder.load(changed(kind, change, tmp_path / "model"))


def test_a_pickle_is_never_opened(tmp_path):
    model, _ = trained("tree")
    folder.save(model, tmp_path / "model")
    content = b"cos\nabort\n(tR."  # would end this process
    (tmp_path / "model" / WEIGHTS).write_bytes(content)
    card = json.loads((tmp_path / "model" / CARD).read_text()) | {"sha256": hashlib.sha256(content).hexdigest()}
    (tmp_path / "model" / CARD).write_text(json.dumps(card))
    with pytest.raises(BadInput, match="not a safetensors file"):
        folder.load(tmp_path / "model")


@pytest.mark.parametrize(
    ("kind", "changes", "fault"),
    [
        ("tfidf", {"dtype": "FP32"}, "tfidf takes texts, not FP32 rows"),
        ("tfidf", {"input_shape": [3]}, "tfidf takes texts, not BYTES rows of shape"),
        ("tree", {"dtype": "BYTES"}, "tree takes rows of numbers, not BYTES rows"),
        ("tree", {"features": [{"name": "age"}]}, "1 features, but rows of shape"),
        ("tree", {"class_names": ["only"]}, "at least 2 classes, not 1"),
    ],
)
def test_a_card_of_another_kind_is_refused(kind, changes, fault, tmp_path):
    folder.save(trained(kind)[0], tmp_path)
    path = tmp_path / CARD
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(BadInput, match=rf"card\.json: .*{fault}"):
        folder.load(tmp_path)
