import dataclasses
import json

import pytest

from owner.dataset_inference.walks import CAUTION, Walks
from owner.evidence import Evidence, accusations, describe, load, method_of
from owner.marks_held import MarksHeld
from wire import BadInput

WALKS = Walks(
    statistic=1.3,
    degrees_of_freedom=7.5,
    delta_mu=0.25,
    interval=(-0.1, 0.6),
    samples_exposed=3,
    victim="v",
    victim_queries=0,
    victim_queries_before=110,
    suspect_walks={"uniform": {"private": 0.2, "unseen": 0.1}},
    victim_walks={"uniform": {"private": 0.3, "unseen": 0.1}},
    private_scores=(-0.5, 0.1, -1.0),
    unseen_scores=(0.5, 0.1, 1 / 3),
    private_sha256="00",
    unseen_sha256="ff",
    seed=2**100,  # as numpy draws one when none is given
)
EVIDENCE = Evidence(
    method="dataset-inference",
    verdict="inconclusive",
    p_value=0.1,
    alpha=0.01,
    suspect="s",
    suspect_queries=120,
    settings={"starts": 4, "alpha": 0.01},
    caution=CAUTION,
    details=WALKS,
)


def test_evidence_comes_back_from_its_file(tmp_path):
    path = tmp_path / "evidence.json"
    EVIDENCE.save(path)
    assert load(path, Walks) == EVIDENCE
    assert "independent models" in json.loads(path.read_text())["caution"]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{", "JSON"),
        ('{"method": 1}', "method"),
        ("[]", "evidence"),
        ('{"verdict": "accused", "statistic": 1}', "evidence of an earlier version: run the proof again"),
        (None, "No such file"),
    ],
)
def test_a_broken_file_is_told(tmp_path, text, fault):
    path = tmp_path / "evidence.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(BadInput, match=fault):
        load(path, Walks)


def test_evidence_of_another_method_is_refused(tmp_path):
    EVIDENCE.save(tmp_path / "evidence.json")
    with pytest.raises(BadInput, match=r"not evidence of this method: details\.marks Field required"):
        load(tmp_path / "evidence.json", MarksHeld)


def test_a_file_names_its_method(tmp_path):
    EVIDENCE.save(tmp_path / "evidence.json")
    assert method_of(tmp_path / "evidence.json") == "dataset-inference"
    (tmp_path / "no.json").write_text("[]")
    with pytest.raises(BadInput, match=r"no\.json: not an evidence file"):
        method_of(tmp_path / "no.json")
    with pytest.raises(BadInput, match="No such file"):
        method_of(tmp_path / "nowhere.json")


def test_evidence_is_described_with_what_to_do_next():
    text = describe(EVIDENCE)
    assert text.startswith("s: inconclusive at alpha 0.01, p = 0.1\n")
    assert "queried the suspect with 120 rows" in text and "next: use more images" in text and CAUTION in text
    accused = describe(dataclasses.replace(EVIDENCE, verdict="accused", suspect_url="http://there"))
    assert accused.startswith("s at http://there: accused") and "next: test models" in accused


def test_evidence_is_flat_beside_others():
    flat = EVIDENCE.flat()
    assert (flat["p_value"], flat["delta_mu"]) == (0.1, 0.25) and "details" not in flat


@pytest.mark.parametrize(
    ("accused", "of", "low", "high"),
    [(0, 3, 0.0, 0.7076), (1, 3, 0.0084, 0.9057), (3, 3, 0.2924, 1.0), (2, 10, 0.0252, 0.5561)],
)
def test_accusations_have_the_exact_interval(accused, of, low, high):
    guilty = dataclasses.replace(EVIDENCE, verdict="accused")
    found = accusations([guilty] * accused + [EVIDENCE] * (of - accused))
    assert found[:2] == (accused, of)
    assert found[2:] == pytest.approx((low, high), abs=1e-4)
