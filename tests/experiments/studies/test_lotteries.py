import json

import numpy as np
import pytest
import torch
from scipy import stats

from experiments.studies.designs import climbed
from experiments.studies.front_end import FrontEnd, TableFrontEnd, described
from experiments.studies.lotteries import Lotteries
from experiments.studies.lotteries_table import ends, false_accusations, table
from experiments.studies.lottery import Lottery, Seen, standing
from experiments.studies.suspects import Suspects
from owner.twin_test import ranking
from owner.twins import study as studies
from owner.twins import training
from tests.kinds import images
from wire import BadInput, Feature
from zoo import folder
from zoo.data import Pool, load, roles
from zoo.exact_interval import exact_interval
from zoo.families.logistic import Softmax
from zoo.families.mlp import Mlp
from zoo.recipe import Recipe
from zoo.training import Training

SMALL = Lotteries(
    dataset="digits",
    front_end=False,
    hidden=(32,),
    epochs=12,
    batch=32,
    lotteries=2,
    models=10,
    victims=2,
    independents=10,
    controls=2,
    thief_epochs=5,
    kinds=("itself", "pruned", "labels, 100", "averaged", "20 % at random", "foreign labels, 100"),
    foreign="digits",
)


def test_every_suspect_is_compared_with_the_victims_of_every_lottery(tmp_path):
    out = tmp_path / "results.json"
    results = SMALL.run(3, None, tmp_path / "cache", out)
    assert json.loads(out.read_text()) == json.loads(json.dumps(results))
    assert len(results["lotteries"]) == 2 and len(results["innocent"]) == 10
    for lottery in results["lotteries"]:
        assert np.shape(lottery["z"]) == np.shape(lottery["ranks"]) == (10, 2) and lottery["of"] == 100
        assert len(lottery["thefts"]) == 12 and lottery["innocent thefts"][0] == 12
        for one in lottery["thefts"][:2]:
            assert one["kind"] == "itself" and one["rank"] == 1 and one["agreement"] == 1 and one["z"] > 3
    assert SMALL.run(3, None, tmp_path / "cache", None)["lotteries"] == results["lotteries"]  # from the cache
    plain, judged = false_accusations(results)
    assert plain.shape == judged.shape == (10, 4) and not (judged & ~plain).any()
    text = table(results)
    assert "| itself | 4 of 4 | 40% to 100% | 4 |" in text
    assert "10 models, 4 victims, with the judge's line" in text and "(200 pairs)" in text


def test_a_cut_off_run_leaves_what_it_has(tmp_path, monkeypatch):
    drawn, out = Lottery.drawn, tmp_path / "results.json"

    def once(*given):
        if out.exists():
            raise KeyboardInterrupt
        return drawn(*given)

    monkeypatch.setattr(Lottery, "drawn", once)
    with pytest.raises(KeyboardInterrupt):
        SMALL.run(3, None, tmp_path / "cache", out)
    assert "| itself | 2 of 2 |" in table(json.loads(out.read_text()))


def test_more_rows_than_a_thief_has_are_refused(tmp_path):
    with pytest.raises(BadInput, match="a thief has 512 rows, not 513"):
        Lotteries(**{**vars(SMALL), "kinds": ("labels, 513",)}).run(3, None, tmp_path / "cache", None)


def test_foreign_images_of_another_shape_are_refused(tmp_path):
    with pytest.raises(BadInput, match="mnist_digits has rows of another shape than digits"):
        Lotteries(**{**vars(SMALL), "foreign": "mnist_digits"}).run(3, None, tmp_path / "cache", None)


def test_z_of_each_model_as_the_victim_is_that_of_the_twin_test():
    similarities = np.random.default_rng(0).normal(size=(3, 7))
    found = standing(similarities)
    for row, z in zip(similarities, found, strict=True):
        np.testing.assert_allclose(z, [ranking(row, victim).z for victim in range(7)], rtol=1e-9)


@pytest.mark.parametrize(("hits", "trials"), [(0, 20), (3, 20), (20, 20)])
def test_an_interval_of_whole_hits_is_exact(hits, trials):
    np.testing.assert_allclose(ends(hits, trials), exact_interval(hits, trials)[1:])


def test_the_front_end_depends_on_the_image_alone():
    pool = images(40, shape=(1, 14, 14))
    front = FrontEnd(pool.x, 20)
    whole = front(pool.x)
    assert whole.shape == (40, 20) and whole.dtype == np.float32 and front(pool.x) is whole
    np.testing.assert_allclose(front(pool.x[3:5].copy()), whole[3:5], rtol=1e-4, atol=1e-4)
    with pytest.raises(BadInput, match="takes images of at least 7 x 7, not \\(1, 6, 9\\)"):
        FrontEnd(np.zeros((2, 1, 6, 9), np.float32))


def test_the_front_end_takes_each_colour_by_itself():
    x = images(6, shape=(3, 14, 14)).x
    grey = [described(x[:, [colour]]) for colour in range(3)]
    cells, shades = ([part[:, half] for part in grey] for half in (slice(32), slice(32, None)))
    np.testing.assert_allclose(described(x), np.concatenate([*cells, *shades], axis=1), rtol=1e-4, atol=1e-5)


def test_the_front_end_of_a_table_has_categories_and_ranks():
    x = np.array([[0, 5.0], [1, 100.0], [np.nan, np.nan], [1, -3.0]], np.float32)
    table = Pool(x, None, (), missing=True, features=(Feature("colour", ("red", "blue")), Feature("height", ())))
    expected = [[1, 0, 2 / 3], [0, 1, 1], [0, 0, 0], [0, 1, 1 / 3]]
    np.testing.assert_allclose(TableFrontEnd(table)(x), expected, rtol=1e-6)


def test_the_models_of_a_prepared_study_are_a_lottery(tmp_path):
    held, study = roles.draw(load("digits", None, tmp_path), 3), tmp_path / "study"
    victim = Recipe(Mlp((32,)), Training(12, 32, 1e-2), 2**40).train(held["victim"], device="cpu")
    folder.save(victim, tmp_path / "victim", seed=2**40)
    pools = {"private": held["victim"], "unseen": held["unseen"], "reference": held["reference"]}
    studies.begin(study, tmp_path / "victim", pools, 7, {})
    training.train(study, 1)
    small = Lotteries(**{**vars(SMALL), "kinds": ("itself", "labels, 100"), "logged": True})
    results = small.run(3, None, tmp_path / "cache", None, study)
    assert results["settings"]["models"] == 8 and results["settings"]["lotteries"] == 1
    (lottery,) = results["lotteries"]
    itself, *_, theft = lottery["thefts"]
    assert (itself["rank"], itself["victim"]) == (1, 0) and itself["accuracy"] == lottery["accuracy"][0]
    assert _share(victim, held["victim"]) == pytest.approx(lottery["train"][0], abs=1e-4)
    logged = theft["logged"]
    assert 0 < logged["queries"] <= 100 and logged["remembered"] > theft["agreement"] - 0.05
    assert len(logged["innocent"]) == 10 and len(logged["controls"]) == 2
    with pytest.raises(BadInput, match="its private rows are not those of the role victim; check --seed"):
        small.run(4, None, tmp_path / "cache", None, study)


def _share(model, pool):
    return (model.predict(pool.x).argmax(axis=1) == pool.y).mean()


@pytest.mark.parametrize("design", ["mixed", "climbed"])
def test_made_queries_treat_all_models_alike(tmp_path, monkeypatch, design):
    monkeypatch.setattr("experiments.studies.designs.CANDIDATES", 300)
    monkeypatch.setattr("experiments.studies.designs.KEPT", 50)
    monkeypatch.setattr("experiments.studies.designs.PARENTS", 60)
    settings = {**vars(SMALL), "design": design, "lotteries": 1, "kinds": ("itself",)}
    (lottery,) = Lotteries(**settings).run(3, None, tmp_path / "cache", None)["lotteries"]
    assert lottery["queries"] == lottery["chosen"] + 50
    assert [one["rank"] for one in lottery["thefts"]] == [1, 1]


def test_climbing_makes_models_disagree_more_whatever_their_order():
    rng = np.random.default_rng(0)
    modules = [torch.nn.Linear(6, 3) for _ in range(4)]
    x = rng.random((20, 6)).astype(np.float32)

    def spread(rows):
        with torch.no_grad():
            probs = torch.stack([module(torch.from_numpy(rows)).softmax(1) for module in modules])
        return float((probs - probs.mean(0)).square().sum())

    moved = climbed(x, modules)
    assert spread(moved) > spread(x) and moved.min() >= 0 and moved.max() <= 1
    np.testing.assert_allclose(climbed(x, modules[::-1]), moved, atol=1e-4)


@pytest.mark.slow
def test_ranks_of_trained_victims_are_uniform(tmp_path):
    """The null with real training: each trial draws everything again, rows, victim, twins and suspect."""
    digits, training, ranks = load("digits", None, tmp_path), Training(2, 32, 1e-2), []
    for trial in range(120):
        held = roles.draw(digits, trial)
        held["victim"], held["unseen"] = held["victim"].take(slice(120)), held["unseen"].take(slice(40))
        made = Suspects(held, held["pool"].x, "softmax", 1 + trial, 2, tmp_path, training, training, Softmax())
        lottery = Lottery.drawn(made, 4, Seen.unchanged(held["reference"]))
        (z,) = lottery.z([made.control(0).predict])
        ranks.append(int((z > z[0]).sum()))
    assert stats.chisquare(np.bincount(ranks, minlength=4)).pvalue > 0.001
