"""One judge of all schemes whose queries follow from a committed key, and what he refuses."""

import argparse
import dataclasses
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

import owner.marking
from owner.commitment import commit, receipt
from owner.conferrable import Conferrable, Models
from owner.honeytrace import HoneytraceTest, Triggers, files_of
from owner.judgement import Rejected
from owner.log.log import Log
from owner.own_errors import OwnErrors, Rows
from owner.ownership import prove
from owner.scheme_judge import Case, judge
from owner.scheme_key import Rule, SchemeKey
from owner.wrong_keys import residual, standing
from wire import Answer, BadInput, Oracle
from zoo import folder
from zoo.data import load
from zoo.families.mlp import Mlp
from zoo.recipe import Recipe
from zoo.training import Training

DIGITS = load("digits", None, Path()).pool
ROWS, REFERENCE, REST = (DIGITS.take(slice(*ends)) for ends in ((0, 200), (200, 900), (900, 1797)))
RECIPE, RNG = Recipe(Mlp((32,)), Training(epochs=40)), np.random.default_rng(0)
TESTS = {
    "own-errors": OwnErrors(alpha=0.1),
    "conferrable": Conferrable(rows=40, models=3, epochs=20, candidates=200, steps=30, lr=0.03, alpha=0.05),
    "honeytrace": HoneytraceTest(rows=20, wrong=19),
}


def oracle(model, asked=None):
    def answer(x):
        if asked is not None:
            asked.append(len(x))
        probs = model.predict(x)
        return Answer(probs.argmax(axis=1), probs)

    return Oracle(answer, model.card())


@pytest.fixture(scope="module")
def victim():
    return RECIPE.train(ROWS).network()


@pytest.fixture(scope="module")
def others():
    pools = [REST.take(np.random.default_rng(n).permutation(len(REST))[:600]) for n in range(11)]
    return [dataclasses.replace(RECIPE, seed=n).train(pool) for n, pool in enumerate(pools)]


def holdings_of(name, victim, models, key=None):
    if name == "honeytrace":
        return Triggers(REFERENCE, key, models), files_of(REFERENCE)
    files = {"reference rows": REFERENCE.fingerprint, "victim": folder.fingerprint(victim)}
    if name == "conferrable":
        return Models(victim, REFERENCE, models, key), files
    return Rows(oracle(victim), REFERENCE, models, key), files


@pytest.fixture(scope="module", params=TESTS)
def case(request, victim, others, tmp_path_factory):
    """A test, an owner's papers and evidence about the victim itself, and what a judge of it needs."""
    name, test = request.param, TESTS[request.param]
    his = {str(n): oracle(model) for n, model in enumerate(others[:6])}
    key = SchemeKey("5c" * 32, Rule(name, test.committed(), holdings_of(name, victim, {})[1]))
    log = commit(Log.open(tmp_path_factory.mktemp(name) / "log", create=True), key.entry)
    known = dataclasses.replace(key, receipt=receipt(log, key.entry, key.opened_rule()))
    evidence = prove(test, oracle(victim), holdings_of(name, victim, his, known)[0], RNG).signed(log.key)
    held, files = holdings_of(name, victim, {str(n): oracle(model) for n, model in enumerate(others[2:10])}, key)
    return test, Case(evidence, log.heads, key, files), held


def test_the_judge_makes_the_queries_again_and_compares_with_models_of_his_own(case, victim, others):
    test, papers, held = case
    found = judge(papers, test, held, oracle(victim))
    assert found.method == papers.evidence.method and "owner's clock" in found.caution
    if found.method != "honeytrace":  # nobody marked this victim
        assert found.details.z > 0.5 and (found.method == "own-errors" or found.verdict == "accused")
        assert found.details.independent != papers.evidence.details.independent
    assert judge(papers, test, held, oracle(others[10])).verdict == "inconclusive"
    if found.method == "conferrable":  # the same images follow from the key, whoever makes them
        assert found.details.conferrability == papers.evidence.details.conferrability


def test_evidence_that_was_changed_or_is_of_other_things_is_refused_and_nobody_is_asked(case, victim):
    test, papers, held = case
    evidence, asked = papers.evidence, []
    first = next(iter(papers.files))
    other = dataclasses.replace(papers.key, rule=dataclasses.replace(papers.key.rule, method="other"))
    cases = {
        "not signed": dataclasses.replace(papers, evidence=dataclasses.replace(evidence, p_value=0.0)),
        "no receipt": dataclasses.replace(papers, evidence=dataclasses.replace(evidence, receipt=None)),
        "no older than the suspect": dataclasses.replace(papers, since=datetime(2000, 1, 1, tzinfo=UTC)),
        "belongs to the commitment": dataclasses.replace(papers, key=other),
        f"{first}: SHA-256": dataclasses.replace(papers, files={**papers.files, first: "00"}),
    }
    for why, wrong in cases.items():
        with pytest.raises(Rejected, match=why):
            judge(wrong, test, held, oracle(victim, asked))
    assert not asked


def test_settings_other_than_the_committed_ones_are_refused(case, victim, tmp_path):
    test, papers, held = case
    log = Log.open(tmp_path / "log", create=True)
    key = dataclasses.replace(
        papers.key, rule=dataclasses.replace(papers.key.rule, settings={**test.committed(), "rows": 7})
    )
    known = receipt(commit(log, key.entry), key.entry, key.opened_rule())
    log = Log.open(tmp_path / "log")
    evidence = dataclasses.replace(papers.evidence, receipt=known).signed(log.key)
    wrong = dataclasses.replace(papers, evidence=evidence, key=key, heads=log.heads)
    with pytest.raises(Rejected, match="other settings: rows is"):
        judge(wrong, test, held, oracle(victim))


def test_commitments_multiply_the_p_value(case, victim, tmp_path):
    test, papers, held = case
    log, one = Log.open(tmp_path / "log", create=True), judge(papers, test, held, oracle(victim))
    log = commit(log, dataclasses.replace(papers.key, secret="01" * 32).entry)
    log = commit(log, papers.key.entry)
    known = receipt(log, papers.key.entry, papers.key.opened_rule())
    evidence = dataclasses.replace(papers.evidence, receipt=known).signed(log.key)
    two = judge(dataclasses.replace(papers, evidence=evidence, heads=log.heads), test, held, oracle(victim))
    assert two.p_value == pytest.approx(min(1, 2 * one.p_value))


def test_a_key_is_made_by_the_command_and_committed_to(victim, tmp_path):
    folder.save(victim, tmp_path / "victim")
    REFERENCE.save(tmp_path / "reference.npz")
    given = argparse.Namespace(proof="commit-own-errors", victim=tmp_path / "victim", out=tmp_path / "key")
    vars(given).update(dataclasses.asdict(OwnErrors(rows=50)), reference=tmp_path / "reference.npz")
    given.log = tmp_path / "log"
    told, key = owner.marking.fingerprint(given), SchemeKey.load(tmp_path / "key")
    assert key.rule.settings["rows"] == 50 and "tries" not in key.rule.settings
    assert key.rule.files["victim"] == folder.fingerprint(victim) and key.entry.root in told
    assert Log.open(tmp_path / "log").entries == (key.entry.line,)
    with pytest.raises(BadInput, match="has a key already"):
        owner.marking.fingerprint(given)
    with pytest.raises(BadInput, match="key is of own-errors, not of conferrable"):
        key.rule.check("conferrable", {})


def test_wrong_keys_follow_from_the_commitment_and_differ():
    rule = Rule("m", {}, {})
    one, other = (SchemeKey(secret, rule) for secret in ("5c" * 32, "6d" * 32))
    assert len({one.seed, *one.wrong(50), *other.wrong(50)}) == 101 and one.wrong(3) == one.wrong(50)[:3]


def test_the_rank_among_wrong_keys_is_uniform_whoever_the_suspect_is():
    """Keys that suit all models are no evidence, and what models know of keys makes the test sharper."""
    rng, ranks, p = np.random.default_rng(0), [], []
    for _ in range(400):
        luck = rng.standard_exponential(20)
        others = luck + 0.3 * rng.standard_normal((8, 20))
        suspect = 2 * luck + rng.standard_normal(20)
        found = standing(suspect, list(others))
        ranks.append(found.rank), p.append(found.p)
    assert 0.02 < np.mean(np.array(ranks) == 1) < 0.09 and np.mean(np.array(p) <= 0.05) < 0.08
    luck = np.arange(20.0)[::-1]
    assert standing(luck, []).rank == 1 and standing(luck, [luck, luck]).p == 1.0
    assert np.allclose(residual(3 * luck + 1, [luck, luck]), 0)
