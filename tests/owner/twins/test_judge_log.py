"""What the owner's log of commitments shows a judge: the number of tries, and their age."""

import dataclasses
from datetime import timedelta

import numpy as np
import pytest

from owner.commitment import Entry
from owner.log.log import Log
from owner.twin_test import TwinTest
from owner.twins.answers import Holdings
from tests.owner.lottery import asking, drawn, twins
from tests.owner.papers import (
    METHOD,
    accuse,
    case_of,
    committed,
    judged,
    refused,
)

pytestmark = pytest.mark.usefixtures("secret")


def test_the_greater_number_of_tries_counts(papers, tmp_path):
    study, log, victim, evidence = papers
    case = case_of(evidence, study, log, retrained=0, tries=7)
    assert judged(case, victim, tmp_path / "one").found["settings"]["tries"] == 7
    admitted = accuse(study, victim, log, dataclasses.replace(METHOD, tries=9))
    case = dataclasses.replace(case, evidence=admitted)
    assert judged(case, victim, tmp_path / "other").found["settings"]["tries"] == 9


def test_p_is_multiplied_by_the_commitments_of_the_log(papers, tmp_path):
    study, _log, victim, once = papers
    committed(study, tmp_path / "log", before=[Entry(f"{number:064x}", 13) for number in range(15)])
    evidence = accuse(study, victim, tmp_path / "log")
    assert evidence.details.commitments == 16 and evidence.p_value == pytest.approx(16 * once.p_value)
    found = judged(case_of(evidence, study, tmp_path / "log", retrained=0), victim, tmp_path / "work")
    assert found.found["p_value"] == pytest.approx(16 * once.p_value)
    assert any("as entry 16 of 16; p is multiplied by 16" in one for one in found.checked)


def test_an_owner_who_shows_the_best_of_many_victims_accuses_nobody():
    """The best of sixteen victims accuses every second innocent suspect at 5 %, unless p is multiplied by 16."""
    rng, method = np.random.default_rng(7), TwinTest(rows=60, copies=False, alpha=0.05)
    plain = counted = 0
    for _ in range(40):
        suspect = drawn(rng)
        best = 1.0
        for _ in range(16):
            held = Holdings(twins([drawn(rng) for _ in range(8)], settings=method.committed()), {})
            found = method.accuse(asking(suspect), method.prepare(held, rng), rng)
            best = min(best, found.details.p_t if found.details.rank == 1 else 1.0)
        plain += best <= 0.05
        counted += 16 * best <= 0.05
    assert plain >= 12 and counted <= 6  # of 40; 22 and 2 are expected


def test_commitments_that_the_receipt_hides_are_refused(papers, tmp_path):
    study, _log, victim, _ = papers
    committed(study, tmp_path / "log")
    evidence = accuse(study, victim, tmp_path / "log")
    after = Log.open(tmp_path / "log").append(Entry("00" * 32, 13).line)
    case = dataclasses.replace(case_of(evidence, study, tmp_path / "log"), heads=after.heads)
    refused(judged(case, victim, tmp_path / "work"), "a head of 2 entries was published, but the receipt admits 1")
    again = accuse(study, victim, tmp_path / "log")
    found = judged(dataclasses.replace(case, evidence=again), victim, tmp_path / "work2")
    assert found.found["details"]["commitments"] == 2


def test_a_log_that_was_written_anew_is_refused(papers, tmp_path):
    """With the same key, but without the other commitments that were published."""
    study, _log, victim, _ = papers
    before = committed(study, tmp_path / "log", before=[Entry("00" * 32, 13)])
    for name in ("entries.jsonl", "head-1.json", "head-2.json"):
        (tmp_path / "log" / name).unlink()
    (tmp_path / "log" / "entries.jsonl").touch()
    committed(study, tmp_path / "log")
    evidence = accuse(study, victim, tmp_path / "log")
    case = dataclasses.replace(case_of(evidence, study, tmp_path / "log"), heads=before.heads)
    refused(judged(case, victim, tmp_path / "work"), "the log is forked")


def test_the_head_with_the_commitment_must_have_been_published(papers, tmp_path):
    study, log, victim, _ = papers
    committed(study, tmp_path / "log", before=[Entry("00" * 32, 13)])
    evidence = accuse(study, victim, tmp_path / "log")
    case = dataclasses.replace(
        case_of(evidence, study, tmp_path / "log"), heads=Log.open(tmp_path / "log").heads[:1]
    )
    refused(judged(case, victim, tmp_path / "work"), "give that head too")
    case = dataclasses.replace(case, heads=Log.open(log).heads)
    refused(judged(case, victim, tmp_path / "work"), "expected one log")


def test_a_commitment_that_is_no_older_than_the_suspect_is_refused(papers, tmp_path):
    study, log, victim, evidence = papers
    signed = Log.open(log).heads[0].time
    refused(
        judged(case_of(evidence, study, log, since=signed), victim, tmp_path),
        "no older than the suspect",
    )
    found = judged(case_of(evidence, study, log, since=signed + timedelta(seconds=1)), victim, tmp_path / "work")
    assert found.outcome == "derived" and any("is older than the suspect" in one for one in found.checked)
    unknown = judged(case_of(evidence, study, log, since=None), victim, tmp_path / "other")
    assert any("whose date was not given" in one for one in unknown.unchecked)


def test_evidence_without_a_receipt_is_refused(papers, tmp_path):
    study, log, victim, evidence = papers
    bare = dataclasses.replace(evidence, receipt=None)
    refused(
        judged(case_of(bare, study, log), victim, tmp_path), "no receipt of a log: run the owner's test with --log"
    )
