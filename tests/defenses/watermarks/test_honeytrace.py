"""Neural Honeytrace: its triggers, the answers that lean towards them, and the owner's test of a copy."""

import argparse
import asyncio
import dataclasses
from pathlib import Path

import numpy as np
import pytest
from sites import ask, site

import owner.marking
from defenses import Honeytrace
from defenses.watermarks.honeytrace import Trace, nearness, triggers
from owner.honeytrace import HoneytraceTest, Triggers, files_of
from owner.log.log import Log
from owner.ownership import prove
from owner.scheme_key import Rule, SchemeKey
from wire import Answer, BadInput, Oracle
from zoo.data import load
from zoo.data.pool import Pool
from zoo.families.mlp import Mlp
from zoo.penultimate import activation_bits, penultimate
from zoo.recipe import Recipe
from zoo.training import Training

DIGITS = load("digits", None, Path()).pool
ROWS, REST = DIGITS.take(slice(900)), DIGITS.take(slice(900, 1797))
RECIPE, RNG = Recipe(Mlp((32,)), Training(epochs=40)), np.random.default_rng(0)
TEST = HoneytraceTest(rows=50, wrong=39)
KEPT = SchemeKey("5c" * 32, Rule("honeytrace", TEST.committed(), files_of(ROWS)))
SECRET = KEPT.seed
TRACE = Trace(np.zeros((12, 4)), 0.1, 0.5, np.log([0.9, 0.05, 0.05]), 0.5)


class Beside:
    """The companions of a network, in this process."""

    def __init__(self, network):
        self.network = network

    async def activations(self, rows):
        return penultimate(self.network).logits(rows)

    async def activation_bits(self, limits):
        made = activation_bits(self.network, limits)

        async def forward(x):
            return made.predict(x)

        return forward


@pytest.fixture(scope="module")
def victim():
    return RECIPE.train(ROWS).network()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("honeytrace")
    ROWS.save(folder / "pool.npz")
    triggers(ROWS, SECRET, 100).save(folder / "triggers.npz")
    return folder


@pytest.fixture(scope="module")
def layer(victim, files):
    made = Honeytrace(files / "triggers.npz", files / "pool.npz", share=0.1).bind(
        site(victim.card(), companions=Beside(victim))
    )
    asyncio.run(made.start())
    return made


def answers(layer, victim, x):
    return asyncio.run(ask([layer], x, victim.predict(x)))


def test_triggers_are_composites_of_two_classes_with_the_label_of_a_third():
    made, again = (triggers(ROWS, SECRET, 50) for _ in range(2))
    assert np.array_equal(made.x, again.x) and len(set(made.y.tolist())) == 1
    assert not np.array_equal(made.x, triggers(ROWS, "6d" * 32, 50).x)
    corner = made.x[:, :, 4:, 4:]
    for part, rows in ((corner, ROWS.x[:, :, 4:, 4:]), (made.x[:, :, :4], ROWS.x[:, :, :4])):
        flat, of = part.reshape(50, -1), rows.reshape(len(ROWS), -1)
        place = np.array([np.flatnonzero((row == of).all(axis=1))[0] for row in flat])
        assert made.y[0] not in ROWS.y[place]
    with pytest.raises(BadInput, match="at least three classes"):
        triggers(dataclasses.replace(ROWS, y=None), SECRET, 5)


def test_similarity_falls_from_one_to_nothing_and_rises_where_the_victim_is_unsure():
    features = np.repeat([[0.1], [0.3], [0.5], [0.9]], 4, axis=1)
    sure = np.tile([0.9, 0.1, 0], (4, 1))
    assert np.allclose(TRACE.similarity(features, sure), [1, 0.5, 0, 0])
    unsure = np.tile([0.4, 0.3, 0.3], (4, 1))
    assert np.allclose(TRACE.similarity(features, unsure), [1, 0.5**0.25, 0, 0])


def test_answers_are_mixed_by_the_square_and_replaced_by_the_cube_of_the_similarity():
    probs = np.tile(np.array([0.2, 0.7, 0.1], np.float32), (4, 1))
    s, chance = np.array([0, 0.5, 1, 0.9]), np.array([0.0, 0.99, 0.99, 0.65])
    leaned = TRACE.leaned(probs, s, chance)
    mixed = np.exp(0.75 * np.log(probs[1]) + 0.25 * np.log([0.9, 0.05, 0.05]))
    assert np.array_equal(leaned.probs[0], probs[0]) and np.allclose(
        leaned.probs[1], mixed / mixed.sum(), atol=1e-6
    )
    assert np.allclose(leaned.probs[2:], [0.9, 0.05, 0.05], atol=1e-6) and leaned.labels.tolist() == [1, 1, 0, 0]
    later = TRACE.leaned(probs[3:], s[3:], np.array([0.75]))  # 0.9^3 = 0.729 is rounded down to 0.7
    assert not np.allclose(later.probs, leaned.probs[3])


def test_a_trigger_is_not_its_own_neighbour():
    rows = np.arange(11.0)[:, None]
    assert nearness(rows, rows)[0] == 4.5 and nearness(rows, rows, itself=True)[0] == 5.5


def test_customers_keep_most_answers_and_triggers_lose_theirs(layer, victim, files):
    clean, marks = answers(layer, victim, REST.x), Pool.load(files / "triggers.npz")
    same = np.isclose(clean.probs, victim.predict(REST.x)).all(axis=1)
    assert 0.7 < same.mean() < 0.99
    told = answers(layer, victim, marks.x)
    own = (victim.predict(marks.x).argmax(axis=1) == marks.y).mean()
    assert (told.labels == marks.y).mean() > own + 0.3
    again = answers(layer, victim, marks.x)
    assert np.array_equal(told.probs, again.probs)


def test_a_copy_of_the_answers_is_told_from_independent_models(layer, victim, files):
    def oracle(model):
        return Oracle(lambda x: Answer(model.predict(x).argmax(axis=1)), model.card())

    pools = [ROWS.take(np.random.default_rng(n).permutation(900)[:600]) for n in range(9)]
    others = [dataclasses.replace(RECIPE, seed=n).train(pool) for n, pool in enumerate(pools)]
    holdings = Triggers(ROWS, KEPT, {str(n): oracle(model) for n, model in enumerate(others[:8])})
    asked = np.concatenate([REST.x, triggers(REST, SECRET, 60).x])
    stolen = RECIPE.train(Pool(asked, answers(layer, victim, asked).labels, DIGITS.class_names))
    found = prove(TEST, oracle(stolen), holdings, RNG)
    assert found.verdict == "accused" and found.suspect_queries == 40 * 50 and found.details.shared > 0.3
    assert found.details.rank == 1 and found.details.shared > max(found.details.wrong)
    assert prove(TEST, oracle(others[8]), holdings, RNG).verdict == "inconclusive"


def test_what_cannot_be_used_is_refused(victim, files, tmp_path):
    with pytest.raises(BadInput, match="must lie between 0 and 1"):
        Honeytrace(Path("a"), Path("b"), share=0)
    with pytest.raises(BadInput, match="expected more than 10"):
        Honeytrace(Path("a"), Path("b")).trace(np.zeros((5, 3)), np.zeros((9, 3)), 3, 0)
    mixed = Honeytrace(files / "pool.npz", files / "pool.npz").bind(site(victim.card(), companions=Beside(victim)))
    with pytest.raises(BadInput, match="expected triggers of one class"):
        asyncio.run(mixed.start())
    some = dict.fromkeys("abc", Oracle(None, victim.card()))
    with pytest.raises(BadInput, match="private images: SHA-256"):
        TEST.check(victim.card(), Triggers(REST, KEPT, some))
    with pytest.raises(BadInput, match="rows is 9, but the key is of 50"):
        dataclasses.replace(TEST, rows=9).check(victim.card(), Triggers(ROWS, KEPT, some))


def test_from_the_command_come_a_key_and_its_triggers(files, tmp_path):
    given = argparse.Namespace(private=files / "pool.npz", count=20, out=tmp_path / "key", log=tmp_path / "log")
    vars(given).update(dataclasses.asdict(TEST))
    told = owner.marking.honeytrace(given)
    made, key = Pool.load(tmp_path / "key" / "triggers.npz"), SchemeKey.load(tmp_path / "key")
    assert np.array_equal(made.x, triggers(ROWS, key.seed, 20).x) and key.entry.root in told
    assert key.entry.line in Log.open(tmp_path / "log").entries
    with pytest.raises(BadInput, match="has a key already"):
        owner.marking.honeytrace(given)
