import hashlib
import json
from dataclasses import fields, replace

import numpy as np
import pytest
from scipy import stats

from owner.commitment import Entry, drawn_victim
from owner.twins import study as studies
from owner.twins import training
from owner.twins.plan import PARTS, model_hash
from owner.twins.twins import untrained
from tests.kinds import images
from wire import BadInput
from zoo import folder
from zoo.data.pool import Pool
from zoo.families.logistic import Softmax
from zoo.families.trees import Tree
from zoo.recipe import Recipe
from zoo.training import Training

SETTINGS = {"twin-test": {"rows": 5, "ridge": 0.1}}
EVERY = images(200)
POOLS = {
    "private": EVERY.take(slice(80)),
    "unseen": EVERY.take(slice(80, 100)),
    "reference": EVERY.take(slice(100, 200)),
}
TRAINING = Training(epochs=2, checkpoints=2)


@pytest.fixture
def victim(tmp_path):
    recipe = Recipe(Softmax(), TRAINING, 2**40)
    folder.save(recipe.train(POOLS["private"], device="cpu"), tmp_path / "victim", seed=2**40)
    return tmp_path / "victim"


def prepared(victim, study, twins=3, pools=POOLS, jobs=1):
    studies.begin(study, victim, pools, twins, SETTINGS)
    return training.train(study, jobs)


def test_twins_are_trained_by_the_victims_recipe_on_rows_and_seeds_of_their_own(victim, tmp_path):
    plan = prepared(victim, tmp_path / "study")
    assert plan.complete and plan.rows == 80 and plan.recipe(1).family == Softmax()
    assert plan.recipe(1).training == replace(TRAINING, checkpoints=0)
    known = studies.known_rows(POOLS)
    assert len(known) == 100
    drawn = [plan.rows_of(number, known) for number in (1, 2, 3)]
    assert all(len(np.unique(pool.x, axis=0)) == 80 for pool in drawn)
    assert len({pool.fingerprint for pool in [*drawn, POOLS["private"]]}) == 4
    assert len({plan.recipe(number).seed for number in (1, 2, 3)} | {2**40}) == 4
    held = studies.load(tmp_path / "study")
    for number, pool in enumerate(drawn, start=1):
        again = plan.recipe(number).train(pool, device="cpu").predict(POOLS["reference"].x)
        np.testing.assert_allclose(held.models[number](POOLS["reference"].x), again, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(held.models[0](EVERY.x), folder.load(victim).predict(EVERY.x))
    assert held.count == 4 and held.victim == 0 and not held.guessable_seed and held.settings == SETTINGS


def test_two_studies_draw_other_twins(victim, tmp_path):
    one, other = (prepared(victim, tmp_path / name) for name in ("one", "other"))
    assert one.models[0] == other.models[0] and not set(one.models[1:]) & set(other.models[1:])


def test_twins_can_be_trained_in_several_processes(victim, tmp_path):
    assert prepared(victim, tmp_path / "study", twins=2, jobs=2).complete
    assert studies.load(tmp_path / "study").count == 3


def test_an_interrupted_study_goes_on(victim, tmp_path, monkeypatch):
    study, trained = tmp_path / "study", []
    train = Recipe.train

    def interrupted(recipe, pool, **options):
        if len(trained) == 2:
            raise KeyboardInterrupt
        trained.append(recipe.seed)
        return train(recipe, pool, **options)

    monkeypatch.setattr(Recipe, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepared(victim, study)
    plan = studies.read(study)
    assert not plan.complete and training.missing(study, plan) == 1
    with pytest.raises(BadInput, match=r"is not complete: run `mlaas-range prove prepare` again"):
        studies.load(study)
    monkeypatch.setattr(Recipe, "train", train)
    done = prepared(victim, study)
    assert done.complete and done.secret == plan.secret and trained == [done.recipe(1).seed, done.recipe(2).seed]
    before = (study / studies.PLAN).read_bytes()
    assert prepared(victim, study) == done and (study / studies.PLAN).read_bytes() == before


def test_the_root_binds_everything(victim, tmp_path):
    study = tmp_path / "study"
    plan = prepared(victim, study)
    root = studies.load(study).root
    assert root == studies.root_of(study) == plan.entry.root and len(root) == 64
    assert sorted(name for part in PARTS.values() for name in part) == sorted(field.name for field in fields(plan))
    changes = {
        "family": "mlp",
        "fields": {"a": 1},
        "training": None,
        "rows": 79,
        "pools": {},
        "secret": "00" * 32,
        "seed": 3,
        "beacon": "a",
        "twins": 4,
        "thefts": 1,
        "models": plan.models[:3],
        "settings": {},
    }
    assert changes.keys() == {field.name for field in fields(plan)}
    assert len({root, *(replace(plan, **{name: value}).entry.root for name, value in changes.items())}) == 13
    assert plan.pools == {name: pool.fingerprint for name, pool in POOLS.items()}
    assert plan.models == tuple(model_hash(folder.read_card(study / f"model-{number}")) for number in range(4))
    assert (study / "study.json").stat().st_mode & 0o77 == 0 and study.stat().st_mode & 0o77 == 0


@pytest.mark.parametrize("name", ["private", "unseen", "reference"])
def test_other_rows_are_refused(victim, tmp_path, name):
    prepared(victim, tmp_path / "study")
    EVERY.take(slice(30)).save(tmp_path / "study" / f"{name}.npz")
    with pytest.raises(BadInput, match=rf"{name}\.npz does not hold the rows to which study\.json commits"):
        studies.load(tmp_path / "study")


def test_other_weights_are_refused(victim, tmp_path):
    study = tmp_path / "study"
    prepared(victim, study)
    folder.save(Recipe(Softmax(), TRAINING, 9).train(POOLS["private"]), study / "model-2")
    with pytest.raises(BadInput, match=r"model-2 does not hold the model to which study\.json commits"):
        studies.load(study)


@pytest.mark.parametrize("change", [{"high": 0.5}, {"class_names": ["a", *"bcdefghij"]}])
def test_another_card_of_a_model_is_refused(victim, tmp_path, change):
    """A card decides what near copies look like, and what a network computes with its weights."""
    prepared(victim, tmp_path / "study")
    card = tmp_path / "study" / "model-0" / "card.json"
    card.write_text(json.dumps({**json.loads(card.read_text()), **change}))
    with pytest.raises(BadInput, match=r"model-0 does not hold the model to which study\.json commits"):
        studies.load(tmp_path / "study")


def test_an_edited_plan_is_refused(victim, tmp_path):
    prepared(victim, tmp_path / "study")
    plan = tmp_path / "study" / "study.json"
    plan.write_bytes(plan.read_bytes() + b" ")
    with pytest.raises(BadInput, match="was changed, or is of another version"):
        studies.load(tmp_path / "study")


# --- a victim that is drawn --------------------------------------------------------------------------------------


def test_a_beacon_draws_the_victim_once(victim, tmp_path):
    study = tmp_path / "study"
    studies.begin(study, victim, POOLS, 3, SETTINGS, beacon="round 7")
    plan = training.train(study, 1)
    assert plan.entry == Entry(plan.entry.root, 4, "round 7")
    with pytest.raises(BadInput, match=r"its victim is drawn by round 7: run `mlaas-range prove draw`"):
        studies.load(study)
    with pytest.raises(BadInput, match="expected hexadecimal"):
        studies.draw(study, "round")
    number = studies.draw(study, "ab12")
    digest = hashlib.sha256(bytes.fromhex("ab12" + plan.entry.root)).digest()
    assert number == int.from_bytes(digest, "big") % 4 == studies.load(study).victim == studies.draw(study, "ab12")
    with pytest.raises(BadInput, match="a victim is drawn once"):
        studies.draw(study, "ab13")


def test_a_victim_that_was_deployed_is_not_drawn(victim, tmp_path):
    prepared(victim, tmp_path / "study")
    with pytest.raises(BadInput, match="names no beacon"):
        studies.draw(tmp_path / "study", "00")
    with pytest.raises(BadInput, match="may itself be among the simulated thefts"):
        studies.begin(tmp_path / "other", victim, POOLS, 3, SETTINGS, thefts=4, beacon="round 7")


def test_a_beacon_draws_every_model_alike():
    drawn = [drawn_victim(f"{value:04x}", "17" * 32, 5) for value in range(1000)]
    assert stats.chisquare(np.bincount(drawn, minlength=5)).pvalue > 0.01


@pytest.mark.parametrize(
    "change",
    [
        {"twins": 4},
        {"settings": {"twin-test": {"rows": 6}}},
        {"pools": {**POOLS, "reference": EVERY.take(slice(110, 200))}},
    ],
)
def test_a_folder_of_another_study_is_refused(victim, tmp_path, change):
    given = {"pools": POOLS, "twins": 3, "settings": SETTINGS}
    studies.begin(tmp_path / "study", victim, **given)
    with pytest.raises(BadInput, match="holds another study"):
        studies.begin(tmp_path / "study", victim, **{**given, **change})


def test_a_folder_of_another_victim_is_refused(victim, tmp_path):
    studies.begin(tmp_path / "study", victim, POOLS, 3, SETTINGS)
    folder.save(Recipe(Softmax(), TRAINING, 9).train(POOLS["private"]), victim, seed=2**40)
    with pytest.raises(BadInput, match="holds another study"):
        studies.begin(tmp_path / "study", victim, POOLS, 3, SETTINGS)


def test_what_is_no_study_is_told(tmp_path):
    with pytest.raises(BadInput, match=r"study\.json: No such file .*prove prepare"):
        studies.load(tmp_path)
    (tmp_path / "study.json").write_text('{"family": 1}')
    with pytest.raises(BadInput, match=r"study\.json: family: "):
        studies.load(tmp_path)


@pytest.mark.parametrize(("seed", "guessable"), [(0, True), (2**32 - 1, True), (2**32, False), (None, True)])
def test_a_small_or_unknown_seed_of_the_victim_is_noted(victim, tmp_path, seed, guessable):
    model = folder.load(victim)
    folder.save(model, victim, **({} if seed is None else {"seed": seed}))
    prepared(victim, tmp_path / "study", twins=2)
    assert studies.load(tmp_path / "study").guessable_seed is guessable


def test_without_unseen_rows_all_twins_have_the_private_ones(victim, tmp_path):
    pools = {name: POOLS[name] for name in ("private", "reference")}
    plan = prepared(victim, tmp_path / "study", pools=pools)
    rows = plan.rows_of(1, studies.known_rows(pools))
    assert {row.tobytes() for row in rows.x} == {row.tobytes() for row in POOLS["private"].x}
    assert rows.fingerprint != POOLS["private"].fingerprint  # in another order


def test_families_without_gradients_have_twins_too(tmp_path):
    folder.save(Recipe(Tree(), Training(), 2**40).train(POOLS["private"]), tmp_path / "victim", seed=2**40)
    assert prepared(tmp_path / "victim", tmp_path / "study", twins=2).complete


def test_the_time_is_estimated_from_a_few_rows(victim, tmp_path):
    plan = studies.begin(tmp_path / "study", victim, POOLS, 4, SETTINGS)
    known = studies.known_rows(POOLS)
    assert 0 < training.minutes(plan, known, 4, jobs=2) < 1


# --- simulated thefts --------------------------------------------------------------------------------------------


def test_twins_are_stolen_with_the_reference_rows(victim, tmp_path):
    study = tmp_path / "study"
    studies.begin(study, victim, POOLS, 3, SETTINGS, thefts=4)
    plan = training.train(study, 1)
    assert plan.complete and len(set(plan.models)) == 1 + 3 + 4
    known = studies.load_known(study)
    assert known.private == 80 and known.share == 0.8 and len(known.thefts) == 4
    rows = {row.tobytes() for row in plan.rows_of(2, known.pool).x}
    assert [row.tobytes() in rows for row in known.pool.x] == known.twin_bits[1].tolist()
    np.testing.assert_array_equal(known.theft_bits, known.twin_bits[[0, 1, 2, 0]])
    folder.save(folder.load(studies.theft_folder(study, 1)), studies.theft_folder(study, 2))
    with pytest.raises(BadInput, match=r"theft-2 does not hold the model to which study\.json commits"):
        studies.load_known(study)


def test_thefts_need_a_network_and_unseen_images(victim, tmp_path):
    with pytest.raises(BadInput, match="simulated thefts need a network, unseen images, and to be at least two"):
        pools = {name: POOLS[name] for name in ("private", "reference")}
        studies.begin(tmp_path / "study", victim, pools, 3, SETTINGS, thefts=4)


# --- reference rows ----------------------------------------------------------------------------------------------


def test_reference_rows_that_may_have_trained_a_model_are_left_out():
    known = studies.known_rows(POOLS)
    mixed = EVERY.take([5, 150, 90, 151])
    np.testing.assert_array_equal(untrained(mixed, known).x, EVERY.x[[150, 151]])
    for trap in ("private", "unseen"):
        with pytest.raises(BadInput, match="reference rows are among those that the victim or its twins"):
            untrained(POOLS[trap], known)


def test_a_study_is_not_begun_with_such_rows(victim, tmp_path):
    with pytest.raises(BadInput, match="all 20 reference rows are among those"):
        studies.begin(tmp_path / "study", victim, {**POOLS, "reference": POOLS["unseen"]}, 3, SETTINGS)
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize(
    ("pools", "fault"),
    [
        ({"private": replace(POOLS["private"], y=None)}, "need labels"),
        ({"unseen": Pool(np.zeros((3, 7), np.float32), np.zeros(3, int))}, "differ in form or classes"),
        ({"reference": Pool(np.zeros((3, 7), np.float32))}, "are not of the form of the training rows"),
    ],
)
def test_unfit_rows_are_told(victim, tmp_path, pools, fault):
    with pytest.raises(BadInput, match=fault):
        studies.begin(tmp_path / "study", victim, {**POOLS, **pools}, 3, SETTINGS)
