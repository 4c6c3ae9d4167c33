import dataclasses
import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from owner.commitment import drawn_victim, receipt
from owner.evidence import load
from owner.log.log import Log
from owner.twins import study as studies
from owner.twins import training
from owner.twins.answers import Answers, Holdings, Study
from owner.twins.judge import CAUTION
from owner.twins.ranks import Ranks
from tests.owner.papers import (
    CONTROL,
    LATER,
    METHOD,
    OTHERS,
    POOLS,
    RNG,
    SETTINGS,
    accuse,
    case_of,
    committed,
    judged,
    oracle,
    prepare,
    refused,
    trained,
)
from wire import BadInput
from zoo import folder

pytestmark = pytest.mark.usefixtures("secret")


def test_a_judge_reaches_the_same_verdict_from_the_commitment_alone(papers, tmp_path):
    study, log, victim, evidence = papers
    found = judged(case_of(evidence, study, log), victim, tmp_path / "work")
    assert found.outcome == "derived" and found.evidence == evidence.signature
    details = found.found["details"]
    assert details["labels"] == list(evidence.details.labels) and found.found["caution"] == CAUTION
    assert details["z"] == pytest.approx(evidence.details.z) and details["independent"].keys() == {"one"}
    assert any("3 models were trained again" in one for one in found.checked)
    assert any("gave the label of the evidence in 100.0%" in one for one in found.checked)
    assert any("endpoint serves the committed victim" in one for one in found.unchecked)
    assert any("the other 10 models" in one for one in found.unchecked)
    assert "not checked: whether the owner has other logs" in found.describe()


def test_a_judge_trains_models_of_his_own(papers, tmp_path):
    study, log, victim, evidence = papers
    found = judged(case_of(evidence, study, log, retrained=0), victim, tmp_path, independent={}, control=CONTROL)
    details = found.found["details"]
    assert found.outcome == "derived" and len(details["independent"]) == 16
    assert details["limit"] == pytest.approx(max(3, max(details["independent"].values()) + METHOD.margin))
    assert not any("are advisable" in one for one in found.unchecked)


def test_a_judges_models_share_no_row_with_the_owner(papers, tmp_path):
    study, log, victim, evidence = papers
    case = case_of(evidence, study, log, retrained=0)
    with pytest.raises(BadInput, match="rows are among those"):
        judged(case, victim, tmp_path, control=POOLS["private"])
    with pytest.raises(BadInput, match="no labels"):
        judged(case, victim, tmp_path, control=dataclasses.replace(CONTROL, y=None))


def test_models_are_trained_in_several_processes(papers, tmp_path):
    study, log, victim, evidence = papers
    found = judged(
        case_of(evidence, study, log, retrained=1), victim, tmp_path, control=CONTROL, controls=1, jobs=2
    )
    assert found.outcome == "derived" and len(found.found["details"]["independent"]) == 2


def test_another_suspect_is_not_shown_to_derive_by_the_owners_evidence(papers, tmp_path):
    study, log, _, evidence = papers
    found = judged(case_of(evidence, study, log), trained(CONTROL, 2), tmp_path)
    assert found.outcome == "not shown" and found.found["verdict"] == "inconclusive"


def test_another_study_is_refused(papers, tmp_path):
    _study, log, victim, evidence = papers
    other = prepare(tmp_path, seed=2**41)
    refused(judged(case_of(evidence, other, log), victim, tmp_path / "work"), "but the study's is")


def test_a_rule_that_was_loosened_is_refused(papers, tmp_path):
    study, log, victim, evidence = papers
    loose = dataclasses.replace(evidence, settings={**evidence.settings, "margin": 0.0})
    loose = loose.signed(Log.open(log).key)
    refused(judged(case_of(loose, study, log), victim, tmp_path), "but the rule is")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"rank": 2}, "says rank 2 and z"),
        ({"z": 99.0}, "says rank 1 and z 99.000, but its answers give rank 1 and z"),
        ({"similarities": (1.0, 0.0)}, "similarities of the evidence do not follow"),
        ({"labels": (0,) * 30}, "similarities of the evidence do not follow"),
        ({"labels": (99,) * 30}, "or unknown classes, for 200 queries"),
        ({"labels": ()}, "0 answers"),
        ({"root": "00" * 32}, "the evidence belongs to the commitment 0000"),
    ],
)
def test_evidence_that_contradicts_itself_is_refused(papers, tmp_path, change, fault):
    """Even if the owner signs it."""
    study, log, victim, evidence = papers
    asked, details = [], dataclasses.replace(evidence.details, **change)
    tampered = dataclasses.replace(evidence, details=details).signed(Log.open(log).key)
    refused(judged(case_of(tampered, study, log, retrained=0), victim, tmp_path, asked=asked), fault)
    assert not asked


def test_evidence_that_was_changed_after_its_signature_is_refused(papers, tmp_path):
    study, log, victim, evidence = papers
    tampered = dataclasses.replace(evidence, suspect_url="http://rival.example")
    refused(judged(case_of(tampered, study, log), victim, tmp_path), "is not signed by the key of the log")


def test_queries_that_the_owner_picked_are_refused(papers, tmp_path):
    """Rows on which the victim is most alone, in place of those of greatest dispute."""
    study, log, victim, _ = papers
    plan, opened = studies.read(study), Log.open(log)
    held = Holdings(dataclasses.replace(studies.load(study), receipt=receipt(opened, plan.entry, plan.rule)), {})
    labels = held.twins.labels
    picked = np.argsort((labels[1:] == labels[0]).mean(axis=0), kind="stable")[:200]
    x = held.twins.reference.x[picked]
    crafted = Study(held, Answers(picked, held.twins.predict(x)), x)
    evidence = METHOD.accuse(oracle(victim), crafted, RNG).signed(opened.key)
    why = "do not follow from its answers and the committed models"
    asked = []
    refused(judged(case_of(evidence, study, log, retrained=0), victim, tmp_path, asked=asked), why)
    assert not asked


def test_a_copy_of_the_suspect_that_is_passed_off_as_the_victim_is_refused(tmp_path):
    """The victim must follow from its recipe, seed and rows; a copy of an innocent suspect does not."""
    suspect = trained(CONTROL, 5, epochs=3)
    study, log = prepare(tmp_path, model=suspect), tmp_path / "log"
    committed(study, log)
    evidence = accuse(study, suspect, log)
    assert evidence.details.rank == 1  # by the owner's evidence, it is the victim that the suspect resembles most
    asked = []
    found = refused(judged(case_of(evidence, study, log), suspect, tmp_path / "work", asked=asked), "the victim, ")
    assert "it was not made as the study says" in found.why and not asked


def test_twins_that_were_not_made_as_the_study_says_are_refused(tmp_path):
    """Poor twins would make any victim stand out."""
    study, log = prepare(tmp_path), tmp_path / "log"
    for number in range(1, 13):
        poor = trained(POOLS["private"].take(slice(20)), number, epochs=0)
        folder.save(poor, studies.model_folder(study, number))
    training.train(study, 1)  # commits to the models that lie there
    committed(study, log)
    victim = folder.load(studies.model_folder(study, 0))
    evidence = accuse(study, victim, log)
    found = refused(judged(case_of(evidence, study, log), victim, tmp_path / "work"), "trained again")
    assert found.why.startswith("the twin ")


def test_a_victim_without_a_seed_cannot_be_trained_again(tmp_path):
    folder.save(trained(POOLS["private"], 2**40), tmp_path / "victim")
    study, log = tmp_path / "study", tmp_path / "log"
    studies.begin(study, tmp_path / "victim", POOLS, 12, SETTINGS)
    training.train(study, 1)
    committed(study, log)
    victim = folder.load(tmp_path / "victim")
    evidence = accuse(study, victim, log)
    refused(judged(case_of(evidence, study, log), victim, tmp_path / "work"), "does not name its seed")


def test_a_drawn_victim_is_judged_by_the_beacon_alone(tmp_path):
    study, log = prepare(tmp_path, beacon="round 7"), tmp_path / "log"
    committed(study, log)
    entry = studies.read(study).entry
    value = next(f"{v:02x}" for v in range(256) if drawn_victim(f"{v:02x}", entry.root, 13))
    number = studies.draw(study, value)
    victim = folder.load(studies.model_folder(study, number))
    evidence = accuse(study, victim, log)
    assert number > 0
    case = case_of(evidence, study, log, beacon=value, retrained=1)
    found = judged(case, victim, tmp_path / "work")
    assert found.found["details"]["rank"] == evidence.details.rank
    assert found.found["details"]["z"] == pytest.approx(evidence.details.z)
    assert any(
        f"the victim is model {number} of 13, drawn by the value of round 7" in one for one in found.checked
    )
    assert any("became known only after the commitment" in one for one in found.unchecked)
    with pytest.raises(BadInput, match="drawn by round 7: look its value up"):
        judged(dataclasses.replace(case, beacon=None), victim, tmp_path / "work")
    other = next(f"{v:02x}" for v in range(256) if drawn_victim(f"{v:02x}", entry.root, 13) != number)
    refused(
        judged(dataclasses.replace(case, beacon=other), victim, tmp_path / "work"), "the value of round 7 draws"
    )


def test_the_owners_endpoint_must_serve_the_committed_victim(papers, tmp_path):
    study, log, victim, evidence = papers
    asked = []
    case = case_of(evidence, study, log, deployed=oracle(victim, asked))
    found = judged(case, victim, tmp_path / "work")
    assert found.outcome == "derived" and sum(map(len, asked)) <= 500
    assert any("committed victim's label in 100.0% of" in one for one in found.checked)
    assert any("endpoint did so before the suspect existed" in one for one in found.unchecked)
    unasked = judged(dataclasses.replace(case, deployed=None), victim, tmp_path / "unasked")
    assert any("endpoint serves the committed victim, and did so" in one for one in unasked.unchecked)
    twin = folder.load(studies.model_folder(study, 3))
    for other in (twin, trained(POOLS["private"], 5)):  # a twin, and the same recipe with another seed
        case = dataclasses.replace(case, deployed=oracle(other))
        refused(judged(case, victim, tmp_path / "work"), "it serves another model")


def test_the_evidence_that_is_judged_comes_from_its_file(papers, tmp_path):
    _, _, _, evidence = papers
    evidence.save(tmp_path / "evidence.json")
    again = load(tmp_path / "evidence.json", Ranks)
    assert again == evidence and again.to_json() == (tmp_path / "evidence.json").read_bytes()
    assert json.loads(again.to_json())["receipt"]["latest"]["size"] == 1
    assert again.receipt.head.time < datetime.now(UTC) + timedelta(seconds=1) < LATER and OTHERS
