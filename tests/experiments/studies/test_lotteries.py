import json

import numpy as np
import pytest
import torch
from scipy import stats

from experiments.studies.designs import climbed
from experiments.studies.front_end import FrontEnd
from experiments.studies.lotteries import Lotteries, Lottery, Seen, standing
from experiments.studies.lotteries_table import ends, false_accusations, table
from experiments.studies.suspects import Suspects
from owner.twin_test import ranking
from tests.kinds import images
from wire import BadInput
from zoo.data import load, roles
from zoo.exact_interval import exact_interval
from zoo.families.logistic import Softmax
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
    with pytest.raises(BadInput, match="takes grey images of at least 7 x 7, not \\(3, 14, 14\\)"):
        FrontEnd(np.zeros((2, 3, 14, 14), np.float32))


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
