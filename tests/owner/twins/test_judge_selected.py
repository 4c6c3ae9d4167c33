"""A judge of selected inference."""

import pytest

from owner.selected_inference import SelectedInference
from owner.twins import study as studies
from owner.twins import training
from owner.twins.judge import CAUTION
from tests.owner.papers import POOLS, SETTINGS, accuse, case_of, committed, judged, prepare, trained
from zoo import folder

FEW = SelectedInference(images=5, candidates=60, permutations=99)

pytestmark = pytest.mark.usefixtures("secret")


def selected(place, craft=None):
    """Prepares a study with simulated thefts, or crafted ones, and returns it with evidence about the victim."""
    study = prepare(place, settings={**SETTINGS, "selected-inference": FEW.committed()}, thefts=4)
    if craft is not None:
        for number in range(1, 5):
            folder.save(craft(number), studies.theft_folder(study, number))
        training.train(study, 1)
    committed(study, place / "log")
    victim = folder.load(studies.model_folder(study, 0))
    return study, victim, accuse(study, victim, place / "log", FEW, known=True)


def test_selected_inference_is_repeated_too(tmp_path):
    study, victim, evidence = selected(tmp_path)
    found = judged(case_of(evidence, study, tmp_path / "log", retrained=4), victim, tmp_path / "work")
    assert found.found["method"] == "selected-inference" and found.found["p_value"] == evidence.p_value
    assert found.found["details"]["independent"].keys() == {"one"} and found.found["caution"] == CAUTION
    assert any("9 models were trained again" in one for one in found.checked)


def test_thefts_that_were_not_made_as_the_study_says_are_refused(tmp_path):
    """Thefts that know how the private images were divided would accuse anybody."""
    study, victim, evidence = selected(tmp_path, lambda number: trained(POOLS["private"], number, epochs=0))
    found = judged(case_of(evidence, study, tmp_path / "log", retrained=4), victim, tmp_path / "work")
    assert found.outcome == "refused" and found.found is None and "trained again" in found.why
    assert found.why.startswith("the theft ")
