"""Rounds of drand: a signature that the network published, and others."""

from datetime import UTC, datetime

import pytest

import owner.command
from owner.log import drand
from owner.log.drand import check, known_at, round_of
from owner.twins import study as studies
from tests.owner.papers import accuse, case_of, committed, judged, prepare
from wire import BadInput
from zoo import folder

ROUND = 657413  # the example of the package drand-verify
SIGNATURE = "b713718a38ae728dfd477991af2822e08d2f305e47718cef9f7848ce4050e7be41076862b98fad56e91a6b85b89cd97b"


def test_a_beacon_names_its_round():
    assert round_of(f"drand quicknet {ROUND}") == ROUND
    assert [round_of(beacon) for beacon in (None, "round 7", "drand quicknet 0", "drand quicknet 12x")] == [
        None
    ] * 4


def test_a_round_becomes_known_every_three_seconds():
    assert known_at(1) == datetime(2023, 8, 23, 15, 9, 27, tzinfo=UTC)
    assert known_at(21) == datetime(2023, 8, 23, 15, 10, 27, tzinfo=UTC)
    with pytest.raises(BadInput, match="too far away"):
        known_at(10**15)


def test_the_networks_signature_is_accepted_for_its_round_alone():
    pytest.importorskip("py_ecc")
    check(ROUND, SIGNATURE)
    for number, value in (
        (ROUND + 1, SIGNATURE),
        (ROUND, SIGNATURE[:-2]),
        (ROUND, "00" * 48),
        (ROUND, "c0" + "00" * 47),  # the point at infinity
        (ROUND, "round 7"),
    ):
        with pytest.raises(BadInput, match=f"not drand's signature of round {number}"):
            check(number, value)


def test_a_judge_checks_the_signature_and_when_the_round_became_known(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(drand, "check", lambda *given: asked.append(given))
    study, log = prepare(tmp_path, beacon=f"drand quicknet {ROUND}"), tmp_path / "log"
    committed(study, log)
    victim = folder.load(studies.model_folder(study, studies.draw(study, SIGNATURE)))
    case = case_of(accuse(study, victim, log), study, log, beacon=SIGNATURE, retrained=0)
    refused = judged(case, victim, tmp_path / "work")
    assert refused.outcome == "refused" and "known at 2023-09-15 11:00 UTC, before the commit" in refused.why
    monkeypatch.setattr(drand, "GENESIS", datetime(2100, 1, 1, tzinfo=UTC))
    found = judged(case, victim, tmp_path / "work")
    assert any("that value is the network's, and became known at 2100-01-23" in one for one in found.checked)
    assert not any("became known only after" in one for one in found.unchecked)
    assert asked == [(ROUND, SIGNATURE)] * 3


def test_a_round_that_is_known_is_not_committed_to(tmp_path, capsys):
    study, log = prepare(tmp_path, beacon=f"drand quicknet {ROUND}"), tmp_path / "log"
    with pytest.raises(BadInput, match=f"drand quicknet {ROUND} is known already"):
        owner.command.main(["commit", "--study", str(study), "--log", str(log)])
