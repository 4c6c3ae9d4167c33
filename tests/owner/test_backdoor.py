"""The backdoor watermark: its triggers, its mark, the owner's test and the judge."""

import argparse
import dataclasses
from datetime import UTC, datetime

import numpy as np
import pytest

import cli.models
import owner.marking
from defenses.training.backdoor import Backdoor
from owner.backdoor import BackdoorTest, Marked
from owner.backdoor_judge import judge
from owner.commitment import commit, receipt
from owner.evidence import load
from owner.judgement import Rejected
from owner.log.log import Log
from owner.ownership import prove
from owner.trigger_key import TriggerKey, TriggersHeld, seed_of
from tests.kinds import images
from wire import Answer, BadInput, Card, Oracle
from zoo import folder
from zoo.data.pool import Pool
from zoo.families.mlp import Mlp
from zoo.recipe import Recipe
from zoo.training import Training

TEN = tuple("abcdefghij")
ROWS = images(400, names=TEN)
NATURAL = images(100, seed=1, names=TEN)
SECRET = "5c" * 32
RECIPE = Recipe(Mlp((128,)), Training(epochs=40, batch=32))
TEST, RNG = BackdoorTest(), np.random.default_rng(0)
EARLY, LATE = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)


def oracle(model, card=None):
    return Oracle(lambda x: Answer(model.predict(x).argmax(axis=1)), card or model.card())


class Guess:
    """Answers with labels at random."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def predict(self, x):
        return self.rng.random((len(x), 10))


def key_of(kind="abstract", secret=SECRET):
    return TriggerKey.new(Backdoor(kind), ROWS, NATURAL, secret)


@pytest.fixture(scope="module")
def independent():
    return {"one": oracle(RECIPE.train(images(400, seed=5, names=TEN)))}


@pytest.fixture(scope="module")
def victim():
    key = key_of()
    return RECIPE.train(key.rule.mark.marked(ROWS, *key.triggers))


@pytest.fixture
def papers(victim, independent, tmp_path):
    """An owner's log and signed evidence against his own model."""
    key = key_of()
    log = commit(Log.open(tmp_path / "log", create=True), key.entry)
    key = dataclasses.replace(key, receipt=receipt(log, key.entry, key.opened_rule()))
    return log, prove(TEST, oracle(victim), Marked(key, independent), RNG).signed(log.key)


@pytest.mark.parametrize("kind", ["abstract", "pattern", "pixel"])
def test_triggers_follow_from_their_seeds(kind):
    x, y = key_of(kind).triggers
    assert np.array_equal(x, key_of(kind).triggers[0]) and x.dtype == np.float32 and len(x) == 100
    assert not np.array_equal(y, key_of(kind, "6d" * 32).triggers[1])
    key = key_of(kind)
    seed = seed_of(key.entry.root, key.opened(7).content)
    again, label = Backdoor(kind).trigger(seed, (1, 8, 8), 10, NATURAL)
    assert np.array_equal(again, x[7]) and label == y[7]
    assert np.array_equal(np.rint(x * 255) / np.float32(255), x) and x.min() >= 0 and x.max() <= 1
    assert np.bincount(y, minlength=10).min() > 0


@pytest.mark.parametrize(("kind", "changed"), [("pattern", 4), ("pixel", 1)])
def test_natural_triggers_change_little_and_never_have_the_true_label(kind, changed):
    x, y = key_of(kind).triggers
    distances = np.abs(NATURAL.x[None] - x[:, None]).reshape(100, 100, -1)
    assert ((distances > 1 / 255).sum(axis=2).min(axis=1) <= changed).all()
    origin = (distances > 1 / 255).sum(axis=2).argmin(axis=1)
    assert (NATURAL.y[origin] != y).all()


def test_triggers_are_the_share_of_the_rows_that_was_asked_for():
    mark = Backdoor(triggers=10, share=0.2)
    x, y = mark.all_triggers([f"{n:x}" for n in range(10)], (1, 8, 8), 10, None)
    marked = mark.marked(ROWS, x, y)
    assert len(marked) == 500 and np.array_equal(marked.x[400:410], x) and np.array_equal(marked.y[-10:], y)


@pytest.mark.parametrize("wrong", [{"triggers": 0}, {"share": 1.0}])
def test_impossible_marks_are_refused(wrong):
    with pytest.raises(BadInput, match="triggers must be at least 1"):
        Backdoor(**wrong)
    with pytest.raises(BadInput, match="need natural images"):
        TriggerKey.new(Backdoor("pixel"), ROWS, None, SECRET)
    with pytest.raises(BadInput, match="triggers are images"):
        TriggerKey.new(Backdoor(), Pool(np.zeros((4, 6), np.float32), np.zeros(4, np.int64)), None, SECRET)


def test_the_bet_is_fair():
    for p0 in (0.1, 0.3, 0.9):
        assert p0 * 2 ** TEST.won(True, p0) + (1 - p0) * 2 ** TEST.won(False, p0) == pytest.approx(1)


def test_models_that_know_nothing_are_accused_no_more_often_than_the_level_says():
    key, rates = key_of(), []
    for level in (2, 4):
        test = BackdoorTest(most=100, bits=level, kept=0.3)
        study = test.prepare(Marked(key, {}), RNG)
        study = dataclasses.replace(study, starts=1)
        found = [test.accuse(oracle(Guess(n), Card("g", (1, 8, 8), 10)), study, RNG).verdict for n in range(200)]
        rates.append(found.count("accused") / 200)
    assert 0.02 < rates[0] <= 0.25 + 0.05 and rates[1] <= 0.0625 + 0.03


def test_a_marked_model_is_accused_and_most_of_the_key_stays_secret(victim, independent):
    found = prove(TEST, oracle(victim), Marked(key_of(), independent), RNG)
    assert found.verdict == "accused" and found.p_value < 2.0**-64
    assert found.suspect_queries == len(found.details.openings) < 30 and found.details.matches > 24
    assert found.details.p_independent < 0.01
    assert any(
        f"{100 - found.suspect_queries} triggers are still secret" in line
        for line in found.details.describe("accused")
    )
    later = prove(BackdoorTest(skip=60), oracle(victim), Marked(key_of(), independent), RNG)
    assert later.verdict == "accused"
    assert not {o.content for o in later.details.openings} & {o.content for o in found.details.openings}


def test_an_independent_model_is_not_accused(independent):
    found = prove(TEST, independent["one"], Marked(key_of(), {}), RNG)
    assert found.verdict == "inconclusive" and found.p_value > 0.01 and found.suspect_queries == 50


def test_no_trigger_can_be_picked_without_changing_all_others():
    seeds = [seed_of(root, "5c" * 32) for root in (key_of().entry.root, key_of(secret="6d" * 32).entry.root)]
    assert seeds[0] != seeds[1]
    with pytest.raises(BadInput, match="expected hexadecimal"):
        seed_of("00", "not so")


def test_a_spent_key_is_refused(independent):
    with pytest.raises(BadInput, match="none is left"):
        prove(BackdoorTest(skip=100), independent["one"], Marked(key_of(), {}), RNG)


def test_a_judge_makes_the_triggers_again(papers, victim, independent):
    log, evidence = papers
    found = judge(TEST, evidence, log.heads, None, oracle(victim), independent, LATE)
    assert found.verdict == "accused" and found.details.labels == evidence.details.labels
    assert judge(TEST, evidence, log.heads, None, independent["one"], independent).verdict == "inconclusive"


def test_a_judge_counts_what_his_own_models_share(papers, victim):
    log, evidence = papers
    found = judge(TEST, evidence, log.heads, None, oracle(victim), {"a copy": oracle(victim)})
    assert found.verdict == "inconclusive" and found.p_value < 2.0**-64 and found.details.p_independent > 0.5


def test_a_judge_refuses_what_the_log_does_not_bind(papers, victim, independent):
    log, evidence = papers
    one, two, *rest = evidence.details.openings
    cases = {
        "triggers are opened in order": (one, *rest),
        "does not belong": (dataclasses.replace(one, content="00" * 32), two, *rest),
        "opens no trigger": (),
    }
    for why, openings in cases.items():
        forged = dataclasses.replace(evidence, details=dataclasses.replace(evidence.details, openings=openings))
        with pytest.raises(Rejected, match=why):
            judge(TEST, forged.signed(log.key), log.heads, None, oracle(victim), independent)
        with pytest.raises(Rejected, match="not signed"):
            judge(TEST, forged, log.heads, None, oracle(victim), independent)
    with pytest.raises(Rejected, match="no older than the suspect"):
        judge(TEST, evidence, log.heads, None, oracle(victim), independent, EARLY)
    more = commit(log, key_of(secret="7e" * 32).entry)
    with pytest.raises(Rejected, match="the receipt admits 1"):
        judge(TEST, evidence, more.heads, None, oracle(victim), independent)


def test_commitments_multiply_the_p_value(victim, tmp_path):
    key, log = key_of(), Log.open(tmp_path / "log", create=True)
    for secret in ("01" * 32, "02" * 32, "03" * 32):
        log = commit(log, key_of(secret=secret).entry)
    log = commit(log, key.entry)
    known = dataclasses.replace(key, receipt=receipt(log, key.entry, key.opened_rule()))
    one, many = (prove(BackdoorTest(bits=20), oracle(victim), Marked(k, {}), RNG) for k in (key, known))
    assert many.details.commitments == 4 and len(many.details.labels) == len(one.details.labels) + 1


def test_from_the_command_a_key_its_rows_and_a_marked_model(tmp_path):
    ROWS.save(tmp_path / "private.npz")
    NATURAL.save(tmp_path / "natural.npz")
    given = argparse.Namespace(
        private=tmp_path / "private.npz",
        natural=tmp_path / "natural.npz",
        log=tmp_path / "log",
        out=tmp_path / "key",
    )
    vars(given).update(kind="abstract", triggers=20, share=0.1)
    told = owner.marking.backdoor(given)
    key = TriggerKey.load(tmp_path / "key")
    assert key.entry.root in told and "publish" in told and len(Log.open(tmp_path / "log").entries) == 1
    assert len(Pool.load(tmp_path / "key" / "rows.npz")) == 440 and "5c5c" not in told
    with pytest.raises(BadInput, match="has a key already"):
        owner.marking.backdoor(given)
    plain = RECIPE.train(ROWS)
    folder.save(plain, tmp_path / "plain")
    training = {field.name: getattr(Training(epochs=20), field.name) for field in dataclasses.fields(Training)}
    cli.models.train(
        argparse.Namespace(
            **training,
            mlp_hidden=(128,),
            recipe=None,
            rows=tmp_path / "key" / "rows.npz",
            family="mlp",
            against=None,
            start=tmp_path / "plain",
            out=tmp_path / "marked",
            device=None,
            seed=1,
        )
    )
    x, y = key.triggers
    before, after = ((m.predict(x).argmax(1) == y).mean() for m in (plain, folder.load(tmp_path / "marked")))
    assert before < 0.4 and after > 0.9


def test_evidence_can_be_read_again(papers, tmp_path):
    papers[1].save(tmp_path / "e.json")
    assert load(tmp_path / "e.json", TriggersHeld) == papers[1]


def test_going_on_with_a_network_of_other_rows_is_refused(victim):
    with pytest.raises(BadInput, match="does not take these rows"):
        RECIPE.train(images(20, shape=(1, 9, 9), names=TEN), start=victim)
