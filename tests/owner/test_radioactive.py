"""Radioactive data: the mark, the alignment of weights with it, and the test by answers."""

import argparse
import dataclasses
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

import owner.marking
from defenses.training.radioactive import Radioactive, carriers, cosines, p_of_cosines
from owner.commitment import commit, receipt
from owner.judgement import Rejected
from owner.log.log import Log
from owner.ownership import prove
from owner.radioactive import Pairs, RadioactiveTest, key_of, losses, marked_by
from owner.radioactive_judge import judge
from owner.scheme_key import SchemeKey
from wire import Answer, BadInput, Card, Oracle
from zoo import folder
from zoo.data import load
from zoo.data.pool import Pool
from zoo.families.mlp import Mlp
from zoo.penultimate import penultimate
from zoo.recipe import Recipe
from zoo.training import Training

SECRET, RNG = "5c" * 32, np.random.default_rng(0)
DIGITS = load("digits", None, Path()).pool
ROWS, REST = DIGITS.take(slice(700)), DIGITS.take(slice(700, 1700))
RECIPE = Recipe(Mlp((64,)), Training(epochs=20))
MARK = Radioactive(share=0.5, radius=0.15)
CARD, TEST = Card("m", (4,), 2), RadioactiveTest(rows=100, wrong=19)


@pytest.fixture(scope="module")
def marker():
    return RECIPE.train(REST).network()


@pytest.fixture(scope="module")
def marked(marker):
    return MARK.marked(ROWS.take(MARK.chosen(ROWS, SECRET)), marker, SECRET)


@pytest.fixture(scope="module")
def victim(marked):
    x = ROWS.x.copy()
    x[MARK.chosen(ROWS, SECRET)] = marked.x
    return RECIPE.train(dataclasses.replace(ROWS, x=x)).network()


def oracle(model):
    return Oracle(lambda x: Answer((p := model.predict(x)).argmax(axis=1), p), model.card())


def test_marked_images_stay_near_and_their_features_move_along_the_carriers(marker, marked):
    original = ROWS.take(MARK.chosen(ROWS, SECRET))
    change = marked.x - original.x
    assert len(marked) == 350 and 0.02 < np.abs(change).max() <= 0.15 + 1 / 255
    assert np.array_equal(np.rint(marked.x * 255) / np.float32(255), marked.x)
    phi = penultimate(marker)
    moved = ((phi.logits(marked.x) - phi.logits(original.x)) * carriers(SECRET, 10, 64)[original.y]).sum(axis=1)
    others = ((phi.logits(marked.x) - phi.logits(original.x)) * carriers("77", 10, 64)[original.y]).sum(axis=1)
    assert moved.mean() > 0.3 > abs(others.mean()) * 3
    assert np.allclose(np.linalg.norm(carriers(SECRET, 10, 64), axis=1), 1, atol=1e-6)


def test_the_weights_of_a_model_that_learnt_marked_rows_align_with_the_carriers(marker, victim):
    clean = RECIPE.train(ROWS).network()
    p = [p_of_cosines(cosines(model, marker, REST.x, SECRET), 64) for model in (victim, clean)]
    assert p[0] < 1e-4 < 0.001 < p[1]


def test_p_values_of_random_directions_are_uniform():
    directions = np.random.default_rng(1).standard_normal((800, 10, 64))
    cosine = directions[..., 0] / np.linalg.norm(directions, axis=2)
    p = np.array([p_of_cosines(one, 64) for one in cosine])
    assert 0.02 < (p <= 0.05).mean() < 0.08 and 0.42 < (p <= 0.5).mean() < 0.58


def test_by_answers_the_model_that_learnt_marked_rows_stands_out(marked, victim):
    others = {
        str(n): oracle(dataclasses.replace(RECIPE, seed=n).train(REST.take(slice(n * 100, 700 + n * 100))))
        for n in range(4)
    }
    innocent = others.pop("3")
    pairs = Pairs(ROWS.take(MARK.chosen(ROWS, SECRET)), marked, others)
    found = prove(RadioactiveTest(rows=350), oracle(victim), pairs, RNG)
    assert found.verdict == "accused" and found.suspect_queries == 700 and found.details.difference > 0
    assert not found.details.wrong
    assert prove(RadioactiveTest(rows=350), innocent, pairs, RNG).verdict == "inconclusive"


def test_what_the_test_cannot_use_is_refused(marked):
    vanilla = ROWS.take(MARK.chosen(ROWS, SECRET))
    few, mixed = Pairs(vanilla, marked, {}), Pairs(vanilla, marked.take(np.arange(350)[::-1]), {})
    with pytest.raises(BadInput, match="at least 3 independent"):
        RadioactiveTest().check(marked.card(), few)
    with pytest.raises(BadInput, match="same order"):
        RadioactiveTest().check(marked.card(), mixed)
    with pytest.raises(BadInput, match="labels alone"):
        losses(Answer(np.zeros(2, np.int64)), np.zeros(2, np.int64))
    with pytest.raises(BadInput, match="from 0 to 1"):
        MARK.marked(Pool(np.full((2, 4), 7, np.float32), np.zeros(2, np.int64)), None, SECRET)


def test_from_the_command_come_a_secret_and_rows_with_the_mark(marker, tmp_path):
    ROWS.save(tmp_path / "private.npz")
    folder.save(marker, tmp_path / "marker")
    given = argparse.Namespace(private=tmp_path / "private.npz", marker=tmp_path / "marker", out=tmp_path / "key")
    vars(given).update(dataclasses.asdict(Radioactive(steps=5)), log=tmp_path / "log")
    told = owner.marking.radioactive(given)
    made, marked = (Pool.load(tmp_path / "key" / name) for name in ("rows.npz", "marked.npz"))
    changed = (made.x != ROWS.x).any(axis=(1, 2, 3))
    assert len(made) == len(ROWS) and 50 < changed.sum() <= 70 == len(marked) and "publish" in told
    key = SchemeKey.load(tmp_path / "key")
    assert key.entry.root in told and key.entry.line in Log.open(tmp_path / "log").entries
    with pytest.raises(BadInput, match="has a key already"):
        owner.marking.radioactive(given)


@pytest.fixture(scope="module")
def key(marker):
    return key_of(MARK, ROWS.take(MARK.chosen(ROWS, SECRET)), marker, SECRET)


@pytest.fixture(scope="module")
def images(key, marker):
    vanilla = ROWS.take(MARK.chosen(ROWS, SECRET))
    return vanilla, marked_by(key, vanilla, marker, key.seed)


@pytest.fixture(scope="module")
def guilty(images):
    x = ROWS.x.copy()
    x[MARK.chosen(ROWS, SECRET)] = images[1].x
    return oracle(RECIPE.train(dataclasses.replace(ROWS, x=x)))


@pytest.fixture(scope="module")
def others():
    return {
        str(n): oracle(dataclasses.replace(RECIPE, seed=n).train(REST.take(slice(n * 100, 700 + n * 100))))
        for n in range(4)
    }


@pytest.fixture
def papers(key, images, marker, guilty, others, tmp_path):
    """An owner's log and signed evidence."""
    log = commit(Log.open(tmp_path / "log", create=True), key.entry)
    known = dataclasses.replace(key, receipt=receipt(log, key.entry, key.opened_rule()))
    return log, prove(TEST, guilty, Pairs(*images, others, known, marker), RNG).signed(log.key)


def test_a_judge_marks_the_images_again(papers, key, images, marker, guilty, others):
    log, evidence = papers
    found = judge(TEST, evidence, log.heads, key, images, marker, guilty, others)
    assert found.verdict == "accused" and found.details.difference == pytest.approx(evidence.details.difference)
    assert found.details.rank == 1 and len(found.details.wrong) == 19 and found.suspect_queries == 21 * 100
    innocent, rest = others["3"], {name: model for name, model in others.items() if name != "3"}
    assert judge(TEST, evidence, log.heads, key, images, marker, innocent, rest).verdict != "accused"


def test_a_judge_refuses_images_that_do_not_follow_from_the_key(papers, key, images, marker, guilty, others):
    log, evidence = papers
    vanilla, marked = images
    lucky = dataclasses.replace(marked, x=np.clip(marked.x * 1.1, 0, 1))
    cases = {
        "do not follow from the key": (key, (vanilla, lucky), marker),
        "originals, but 300 marked": (key, (vanilla, marked.take(slice(300))), marker),
        "original images: SHA-256": (key, (vanilla.take(slice(300)), marked.take(slice(300))), marker),
        "marker: SHA-256": (key, images, RECIPE.train(ROWS).network()),
        "belongs to the commitment": (dataclasses.replace(key, secret="6d" * 32), images, marker),
    }
    for why, (held, shown, network) in cases.items():
        with pytest.raises(Rejected, match=why):
            judge(TEST, evidence, log.heads, held, shown, network, guilty, others)
    with pytest.raises(Rejected, match="no older than the suspect"):
        early = datetime(2000, 1, 1, tzinfo=UTC)
        judge(TEST, evidence, log.heads, key, images, marker, guilty, others, early)
    forged = dataclasses.replace(evidence, p_value=0.0)
    with pytest.raises(Rejected, match="not signed"):
        judge(TEST, forged, log.heads, key, images, marker, guilty, others)
    unlogged = dataclasses.replace(evidence, receipt=None)
    with pytest.raises(Rejected, match="no receipt"):
        judge(TEST, unlogged, log.heads, key, images, marker, guilty, others)


def test_commitments_multiply_the_p_value(key, images, marker, guilty, others, tmp_path):
    log = Log.open(tmp_path / "log", create=True)
    for secret in ("01" * 32, "02" * 32):
        log = commit(log, dataclasses.replace(key, secret=secret).entry)
    log = commit(log, key.entry)
    known = dataclasses.replace(key, receipt=receipt(log, key.entry, key.opened_rule()))
    one, three = (prove(TEST, guilty, Pairs(*images, others, k, marker), RNG) for k in (key, known))
    assert three.details.commitments == 3 and three.p_value == pytest.approx(3 * one.p_value)
