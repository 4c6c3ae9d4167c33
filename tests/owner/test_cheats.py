"""Accusers who pick what is asked, and suspects who know the test.

Victims are drawn from the lottery, and thieves are trained on their labels of 3,000 random rows.
"""

import dataclasses

import numpy as np
import pytest

from defenses import Consequence, Dawn, GaussianNoise, LabelOnly, Monitored, Prada, Rounding
from experiments.studies.evasions import EVASIONS, averaged, worst_case
from owner.twin_test import TwinTest, ranking, similarity
from owner.twins.answers import Answers, Holdings, Study
from server import serve
from tests.owner.lottery import CARD, COMMON, asking, drawn, predicting, reference, twins
from wire import Answer, Oracle, Refused
from zoo.families.logistic import Softmax
from zoo.families.mlp import Mlp
from zoo.network import Network
from zoo.training import Training

METHOD = TwinTest(rows=300)
PLAIN = TwinTest(rows=60, copies=False)
MODELS = [drawn(np.random.default_rng([4, number])) for number in range(16)]
REFERENCE = reference(2000)
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def study():
    return METHOD.prepare(Holdings(twins(MODELS, settings=METHOD.committed(), rows=REFERENCE), {}), RNG)


def taught(predict, seed=1, family=Softmax(), rows=3000, robust=0.0):  # noqa: B008
    """Trains a network on the labels of a model about random rows."""
    x = reference(rows, seed=100 + seed).x
    network = Network.untrained(family, dataclasses.replace(CARD, class_names=("a", "b", "c")), seed=seed)
    change = worst_case(network, robust) if robust else None
    return network.fit(x, predict(x).argmax(axis=1), Training(10, lr=1e-2), seed=seed, augment=change)


@pytest.fixture(scope="module")
def theft():
    return taught(predicting(MODELS[0]))


def found(study, predict):
    def answer(x):
        return Answer(predict(x).argmax(axis=1))

    return METHOD.accuse(Oracle(answer, CARD), study, RNG)


# --- suspects who know the test ----------------------------------------------------------------------------------


def test_a_theft_by_labels_is_found_and_a_model_of_ones_own_is_not(study, theft):
    evidence = found(study, theft.predict)
    assert evidence.verdict == "accused" and evidence.details.z > 15
    assert found(study, taught(predicting(COMMON)).predict).verdict == "inconclusive"
    assert found(study, taught(predicting(MODELS[5])).predict).verdict == "inconclusive"


@pytest.mark.parametrize("name", EVASIONS)
def test_answers_that_are_changed_at_random_do_not_hide_a_theft(study, theft, name):
    evidence = found(study, EVASIONS[name](theft.predict, 3))
    assert evidence.verdict == "accused" and evidence.details.z > 5


def test_a_theft_from_a_theft_is_found(study, theft):
    assert found(study, taught(theft.predict, 2).predict).verdict == "accused"


def test_a_theft_by_another_family_is_found(study):
    assert found(study, taught(predicting(MODELS[0]), 3, Mlp((16,))).predict).verdict == "accused"


def test_the_mean_of_several_thefts_of_the_victim_is_found(study, theft):
    copies = [theft.predict, *(taught(predicting(MODELS[0]), seed, rows=1000).predict for seed in (4, 5))]
    assert found(study, averaged(copies)).verdict == "accused"


def test_the_mean_of_thefts_of_several_victims_shows_each_of_them_less(study, theft):
    """The more owners are robbed, the less is left of each; nobody who was not robbed is accused."""
    others = [taught(predicting(MODELS[number]), 10 + number, rows=1000).predict for number in (5, 6, 7)]
    alone = found(study, theft.predict).details.z
    two, four = (found(study, averaged([theft.predict, *others[:more]])).details.z for more in (1, 3))
    assert alone > two > four
    assert found(study, averaged(others)).verdict == "inconclusive"


def test_adversarial_training_weakens_the_evidence(study, theft):
    robust = [taught(predicting(MODELS[0]), seed, robust=0.3) for seed in (1, 2)]
    z = [found(study, network.predict).details.z for network in robust]
    assert max(z) < found(study, theft.predict).details.z


def test_a_suspect_that_refuses_near_copies_is_ranked_by_the_rows_themselves(study, theft):
    seen = []

    def guarded(x):
        if seen and np.abs(x[:, None] - np.array(seen)).mean(axis=(2, 3, 4)).min() < 0.2:
            raise Refused("that is a copy of an earlier row")
        seen.extend(x)
        return Answer(theft.predict(x).argmax(axis=1))

    evidence = METHOD.accuse(Oracle(guarded, dataclasses.replace(CARD, max_rows=100)), study, RNG)
    assert evidence.suspect_queries == 300 and "a copy of an earlier row" in evidence.details.stopped
    assert evidence.verdict == "accused"


SERVED = {
    "label only": [LabelOnly()],
    "rounding": [Rounding(1)],
    "noise": [GaussianNoise(0.1)],
    "DAWN": [Dawn(0.02)],
    "DAWN, noise and label only": [LabelOnly(), GaussianNoise(0.05), Dawn(0.005)],
}


@pytest.mark.parametrize("name", SERVED)
def test_a_defended_server_does_not_hide_a_theft(study, theft, name):
    with serve(theft, defenses=SERVED[name], progress=False) as api:
        evidence = METHOD.accuse(api.oracle(), study, RNG)
    assert evidence.verdict == "accused" and evidence.suspect_queries == 2700 and evidence.details.z > 10


@pytest.mark.parametrize(("reaction", "found_out"), [("refuse", True), ("deceive", False)])
def test_a_detector_on_the_suspects_side_accuses_nobody(study, theft, reaction, found_out):
    """An alarm after 104 rows: the honest answers before a refusal suffice here, but not among false ones."""
    defenses = [Monitored(Prada(0.99), "prada", Consequence(reaction))]
    innocent = taught(predicting(COMMON))
    with serve(innocent, defenses=defenses, max_rows=100, progress=False) as api:
        assert METHOD.accuse(api.oracle(), study, RNG).verdict == "inconclusive"
    with serve(theft, defenses=defenses, max_rows=100, progress=False) as api:
        evidence = METHOD.accuse(api.oracle(), study, RNG)
        assert api.alarms()
    assert (evidence.verdict == "accused") == found_out and (evidence.suspect_queries < 2700) == found_out


# --- accusers who pick what is asked -----------------------------------------------------------------------------


def test_points_where_the_accusers_references_side_with_the_victim_accuse_everybody_of_their_kind():
    """The reason why a judge derives the queries."""
    rng = np.random.default_rng(9)
    kind = drawn(rng)
    references, suspects = ([kind + 0.05 * rng.normal(size=kind.shape) for _ in range(8)] for _ in range(2))
    held = Holdings(twins(MODELS, settings=PLAIN.committed(), rows=REFERENCE), {})
    labels = held.twins.labels
    sided = np.array([predicting(one)(REFERENCE.x).argmax(axis=1) for one in references]) == labels[0]
    score = np.where(sided.all(axis=0), (labels[1:] != labels[0]).mean(axis=0), -1)
    picked = np.argsort(-score, kind="stable")[:60]
    x = REFERENCE.x[picked]
    crafted = Study(held, Answers(picked, held.twins.predict(x)), x)
    derived = PLAIN.prepare(held, rng)
    accused = [
        sum(PLAIN.accuse(asking(suspect), study, rng).verdict == "accused" for suspect in suspects)
        for study in (crafted, derived)
    ]
    assert accused == [8, 0]


def test_rows_that_trained_the_twins_would_accuse_everybody():
    """The reason why reference rows that may have trained a model are refused (tests of studies)."""
    rng = np.random.default_rng(11)
    x = reference(1300, seed=5).x
    y = np.where(rng.random(1300) < 0.6, rng.integers(3, size=1300), predicting(COMMON)(x).argmax(axis=1))

    def model(rows, seed):
        network = Network.untrained(Mlp((256,)), CARD, seed=seed)
        return network.fit(x[rows], y[rows], Training(60, lr=1e-2), seed=seed).predict

    splits = [rng.permutation(1000)[:800] for _ in range(10)]
    models = [model(rows, seed) for seed, rows in enumerate(splits)]
    unseen, fresh = np.setdiff1d(np.arange(1000), splits[0]), reference(500, seed=6).x
    suspects = [model(1000 + rng.permutation(300)[:240], 100 + seed) for seed in range(5)]

    def first(rows):
        probs = np.stack([one(rows) for one in models])
        found = [ranking(similarity(probs, one(rows).argmax(axis=1), 0.1), 0) for one in suspects]
        return sum(one.rank == 1 for one in found)

    assert (first(x[unseen]), first(fresh)) == (5, 0)
