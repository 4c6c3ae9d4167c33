import dataclasses
import json

import pytest

from owner.evidence import Evidence, accusations
from wire import BadInput

EVIDENCE = Evidence(
    method="dataset-inference",
    verdict="inconclusive",
    alpha=0.01,
    p_value=0.1,
    statistic=1.3,
    degrees_of_freedom=7.5,
    delta_mu=0.25,
    interval=(-0.1, 0.6),
    samples_exposed=3,
    suspect_queries=120,
    victim_queries=0,
    victim_queries_before=110,
    suspect_model="s",
    victim_model="v",
    suspect_walks={"uniform": {"private": 0.2, "unseen": 0.1}},
    victim_walks={"uniform": {"private": 0.3, "unseen": 0.1}},
    private_scores=(-0.5, 0.1, -1.0),
    unseen_scores=(0.5, 0.1, 1 / 3),
    private_sha256="00",
    unseen_sha256="ff",
    settings={"starts": 4, "alpha": 0.01},
    seed=2**100,  # as numpy draws one when none is given
)


def test_evidence_comes_back_from_its_file(tmp_path):
    path = tmp_path / "evidence.json"
    EVIDENCE.save(path)
    assert Evidence.load(path) == EVIDENCE
    assert "independent models" in json.loads(path.read_text())["caution"]


@pytest.mark.parametrize(
    ("text", "fault"),
    [("{", "JSON"), ('{"method": 1}', "method"), ("[]", "evidence"), (None, "No such file")],
)
def test_a_broken_file_is_told(tmp_path, text, fault):
    path = tmp_path / "evidence.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(BadInput, match=fault):
        Evidence.load(path)


@pytest.mark.parametrize(
    ("accused", "of", "low", "high"),
    [(0, 3, 0.0, 0.7076), (1, 3, 0.0084, 0.9057), (3, 3, 0.2924, 1.0), (2, 10, 0.0252, 0.5561)],
)
def test_accusations_have_the_exact_interval(accused, of, low, high):
    guilty = dataclasses.replace(EVIDENCE, verdict="accused")
    found = accusations([guilty] * accused + [EVIDENCE] * (of - accused))
    assert found[:2] == (accused, of)
    assert found[2:] == pytest.approx((low, high), abs=1e-4)
