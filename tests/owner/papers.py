"""Small studies, their log and their evidence, as an owner hands them to a judge."""

import dataclasses
from datetime import UTC, datetime

import numpy as np

from owner import selected_inference
from owner.commitment import commit, receipt
from owner.log.log import Log
from owner.twin_test import TwinTest
from owner.twins import study as studies
from owner.twins import training
from owner.twins.again import Remade
from owner.twins.answers import Holdings
from owner.twins.judge import Case, judge
from tests.kinds import images
from wire import Answer, Oracle
from zoo import folder
from zoo.families.logistic import Softmax
from zoo.recipe import Recipe
from zoo.training import Training

ROWS = images(700)
POOLS = {
    "private": ROWS.take(slice(80)),
    "unseen": ROWS.take(slice(80, 100)),
    "reference": ROWS.take(slice(100, 600)),
}
CONTROL = ROWS.take(slice(600, 700))
METHOD = TwinTest(rows=200, copies=False)
SETTINGS = {"twin-test": METHOD.committed()}
LATER = datetime(2100, 1, 1, tzinfo=UTC)
RNG = np.random.default_rng(0)


def trained(pool, seed, epochs=1):
    return Recipe(Softmax(), Training(epochs=epochs), seed).train(pool, device="cpu")


def oracle(model, asked=None):
    def answer(x):
        if asked is not None:
            asked.append(x)
        probs = model.predict(x)
        return Answer(probs.argmax(axis=1), probs)

    return Oracle(answer, dataclasses.replace(model.card(), model="suspect"))


OTHERS = {"one": oracle(trained(CONTROL, 1))}


def prepare(place, seed=2**40, model=None, settings=SETTINGS, **more):
    """Prepares a study, whose victim is another model than its card says if one is given."""
    folder.save(model or trained(POOLS["private"], seed), place / "victim", seed=seed)
    studies.begin(place / "study", place / "victim", POOLS, 12, settings, **more)
    training.train(place / "study", 1)
    return place / "study"


def committed(study, log, before=()):
    """Commits to a study, after other entries."""
    opened = Log.open(log, create=True)
    for entry in before:
        opened = commit(opened, entry)
    return commit(opened, studies.read(study).entry)


def accuse(study, suspect, log, method=METHOD, known=False):
    """Returns signed evidence about a suspect."""
    plan, opened = studies.read(study), Log.open(log)
    twins = dataclasses.replace(studies.load(study), receipt=receipt(opened, plan.entry, plan.rule))
    if known:
        held = selected_inference.Holdings(dataclasses.replace(studies.load_known(study), twins=twins), {})
    else:
        held = Holdings(twins, {})
    return method.accuse(oracle(suspect), method.prepare(held, RNG), RNG).signed(opened.key)


def judged(case, suspect, work, *, independent=OTHERS, asked=None, **more):
    """Judges a case; by default there is one independent model."""
    work.mkdir(exist_ok=True)
    return judge(case, oracle(suspect, asked), independent, Remade(work, **more), np.random.default_rng(3))


def case_of(evidence, study, log, **more):
    return Case(evidence, study, [Log.open(log).heads[-1]], **{"since": LATER, **more})


def refused(found, why):
    """Checks that a judge refuses, and why; returns what he found."""
    assert found.outcome == "refused" and found.found is None, found
    assert why in found.why
    return found
