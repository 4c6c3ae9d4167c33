"""What holds for the models of every family."""

import numpy as np
import pytest
from kinds import KINDS, images, sentences, table, trained

from wire import BadInput
from zoo import folder
from zoo.data.pool import Pool
from zoo.recipe import Recipe

every_kind = pytest.mark.parametrize("kind", KINDS)


@every_kind
def test_what_was_saved_is_loaded(kind, tmp_path):
    model, pool = trained(kind)
    folder.save(model, tmp_path / "model", note="a test")
    loaded = folder.load(tmp_path / "model", "cpu")
    np.testing.assert_array_equal(loaded.predict(pool.x), model.predict(pool.x))
    assert loaded.card() == model.card() == pool.card()
    assert (loaded.family, loaded.training) == (model.family, model.training)


@every_kind
def test_a_model_tells_probabilities(kind):
    model, pool = trained(kind)
    probs = model.predict(pool.x)
    assert probs.shape == (len(pool), len(pool.class_names)) and probs.dtype == np.float32
    np.testing.assert_allclose(probs.sum(1), 1, atol=1e-6)
    assert model.predict(pool.x[:0]).shape == (0, len(pool.class_names))


@every_kind
def test_a_model_is_a_network_or_says_that_it_is_none(kind):
    model, pool = trained(kind)
    if pool.dtype == "BYTES":
        with pytest.raises(BadInput, match="not a network: it has no layers, gradients or checkpoints"):
            model.network()
    else:
        assert model.network() is model
    assert model.tensors() and all(tensor.device.type == "cpu" for tensor in model.tensors().values())


@every_kind
def test_the_same_seed_trains_the_same_model(kind):
    (one, pool), (other, _) = trained(kind), trained(kind)
    np.testing.assert_array_equal(one.predict(pool.x), other.predict(pool.x))


@every_kind
def test_an_answer_does_not_depend_on_the_rows_beside_it(kind):
    model, pool = trained(kind)
    together = model.predict(pool.x)
    alone = np.concatenate([model.predict(pool.x[i : i + 1]) for i in range(len(pool))])
    np.testing.assert_array_equal(alone, together)
    np.testing.assert_array_equal(model.predict(pool.x[::-1]), together[::-1])


@pytest.mark.parametrize("kind", ["svm", "svm-linear", "svm-two", "tree", "forest", "gbdt", "knn", "tfidf"])
def test_what_can_be_learnt_is_learnt(kind):
    model, _ = trained(kind)
    fresh = {"tfidf": sentences, "tree": table, "forest": table, "gbdt": table}.get(kind, images)(seed=1)
    if kind == "svm-two":
        fresh = images(seed=1, names=("a", "b"))
    assert (model.predict(fresh.x).argmax(1) == fresh.y).mean() > 0.8  # a tenth of the table is missing


@every_kind
def test_rows_of_another_kind_are_refused(kind):
    family, pool = KINDS[kind]
    other = sentences() if pool.dtype == "FP32" else images()
    with pytest.raises(BadInput, match=r"takes (texts, not FP32|rows of numbers, not BYTES) rows"):
        Recipe(family).train(other)


@pytest.mark.parametrize("kind", ["softmax", "mlp", "svm", "knn"])
def test_missing_features_are_only_for_trees(kind):
    with pytest.raises(BadInput, match="missing or categorical features; these families can: tree, forest, gbdt"):
        Recipe(KINDS[kind][0]).train(table())


@pytest.mark.parametrize(("kind", "least"), [("svm", 3), ("tree", 1), ("gbdt", 1), ("knn", 1), ("tfidf", 1)])
def test_a_class_without_rows_is_named(kind, least):
    family, pool = KINDS[kind]
    lacking = Pool(pool.x, pool.y, (*pool.class_names, "rare"), pool.missing, pool.features)
    with pytest.raises(BadInput, match=rf"class 'rare' has 0 training rows; expected at least {least}"):
        Recipe(family).train(lacking)
