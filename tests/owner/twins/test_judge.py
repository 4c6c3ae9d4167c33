import dataclasses
import shutil

import numpy as np
import pytest

from owner import selected_inference
from owner.judge import Rejected
from owner.selected_inference import SelectedInference
from owner.twin_test import TwinTest
from owner.twins import study as studies
from owner.twins import training
from owner.twins.answers import Holdings
from owner.twins.judge import CAUTION, judge
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
METHOD = TwinTest(rows=30, copies=False)
SETTINGS = {"twin-test": METHOD.committed()}
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


OTHERS = {"one": oracle(trained(ROWS.take(slice(600, 700)), 1))}


def prepare(place, seed=2**40, model=None):
    """Prepares a study, whose victim is another model than its card says if one is given."""
    folder.save(model or trained(POOLS["private"], seed), place / "victim", seed=seed)
    studies.begin(place / "study", place / "victim", POOLS, 12, SETTINGS)
    training.train(place / "study", 1)
    return place / "study"


def accuse(study, suspect):
    twins = studies.load(study)
    holdings = Holdings(twins, {})
    return METHOD.accuse(oracle(suspect), METHOD.prepare(holdings, RNG), RNG), twins.root


@pytest.fixture(autouse=True, scope="module")
def secret():
    """The same twins in every run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("owner.twins.study.secrets.token_hex", lambda size: "17" * size)
        yield


@pytest.fixture(scope="module")
def case(tmp_path_factory, secret):
    study = prepare(tmp_path_factory.mktemp("case"))
    victim = folder.load(studies.model_folder(study, 0))
    return study, victim, *accuse(study, victim)


def test_a_judge_reaches_the_same_verdict_from_the_commitment_alone(case):
    study, victim, evidence, root = case
    found = judge(evidence, root.upper(), study, oracle(victim), OTHERS, RNG)
    assert found.verdict == "accused" and found.details.labels == evidence.details.labels
    assert found.details.z == pytest.approx(evidence.details.z) and found.caution == CAUTION
    assert found.details.independent.keys() == {"one"} and found.settings == dataclasses.asdict(METHOD)


def test_another_suspect_is_not_accused_by_the_owners_evidence(case):
    study, _, evidence, root = case
    found = judge(evidence, root, study, oracle(trained(ROWS.take(slice(600, 700)), 2)), OTHERS, RNG)
    assert found.verdict == "inconclusive"


def test_the_greater_number_of_tries_counts(case):
    study, victim, evidence, root = case
    assert judge(evidence, root, study, oracle(victim), OTHERS, RNG, retrained=0, tries=7).settings["tries"] == 7
    admitted = dataclasses.replace(evidence, settings={**evidence.settings, "tries": 9})
    assert judge(admitted, root, study, oracle(victim), OTHERS, RNG, retrained=0, tries=7).settings["tries"] == 9


def test_another_commitment_is_refused(case, tmp_path):
    study, victim, evidence, root = case
    with pytest.raises(Rejected, match=f"the evidence belongs to the commitment {root}, but 00 was published"):
        judge(evidence, "00", study, oracle(victim), OTHERS, RNG)
    other = prepare(tmp_path, seed=2**41)
    with pytest.raises(Rejected, match=f"the study belongs to the commitment .*, but {root} was published"):
        judge(evidence, root, other, oracle(victim), OTHERS, RNG)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"rank": 2}, "says rank 2 and z"),
        ({"z": 99.0}, "says rank 1 and z 99.000, but its similarities give rank 1 and z"),
        ({"similarities": (1.0, 0.0)}, "2 similarities for 13 models"),
    ],
)
def test_evidence_that_contradicts_itself_is_refused(case, change, fault):
    study, victim, evidence, root = case
    asked = []
    tampered = dataclasses.replace(evidence, details=dataclasses.replace(evidence.details, **change))
    with pytest.raises(Rejected, match=fault):
        judge(tampered, root, study, oracle(victim, asked), OTHERS, RNG)
    assert not asked


def test_a_changed_study_is_refused(case, tmp_path):
    study, victim, evidence, root = case
    changed = tmp_path / "study"
    shutil.copytree(study, changed)
    plan = studies.read(changed)
    studies.write(
        changed, dataclasses.replace(plan, settings={"twin-test": {**METHOD.committed(), "margin": 0.0}})
    )
    with pytest.raises(Rejected, match=f"the study belongs to the commitment .*, but {root} was published"):
        judge(evidence, root, changed, oracle(victim), OTHERS, RNG)


def test_a_copy_of_the_suspect_that_is_passed_off_as_the_victim_is_refused(tmp_path):
    """The victim must follow from its recipe, seed and rows; a copy of an innocent suspect does not."""
    suspect = trained(ROWS.take(slice(600, 700)), 5, epochs=3)
    study = prepare(tmp_path, model=suspect)
    evidence, root = accuse(study, suspect)
    assert evidence.details.rank == 1  # by the owner's evidence, it is the victim that the suspect resembles most
    asked = []
    with pytest.raises(Rejected, match=r"the victim, trained again, agrees .* it was not made as the study says"):
        judge(evidence, root, study, oracle(suspect, asked), OTHERS, RNG)
    assert not asked


def test_twins_that_were_not_made_as_the_study_says_are_refused(case, tmp_path):
    """Poor twins would make any victim stand out."""
    study = prepare(tmp_path)
    for number in range(1, 13):
        poor = trained(POOLS["private"].take(slice(20)), number, epochs=0)
        folder.save(poor, studies.model_folder(study, number))
    training.train(study, 1)  # commits to the weights that lie there
    victim = folder.load(studies.model_folder(study, 0))
    evidence, root = accuse(study, victim)
    with pytest.raises(Rejected, match=r"the twin \d+, trained again"):
        judge(evidence, root, study, oracle(victim), OTHERS, RNG)


# --- selected inference ------------------------------------------------------------------------------------------

FEW = SelectedInference(images=5, candidates=60, permutations=99)


def selected(place, craft=None):
    """Prepares a study with simulated thefts, or crafted ones, and returns it with evidence about the victim."""
    folder.save(trained(POOLS["private"], 2**40), place / "victim", seed=2**40)
    study, settings = place / "study", {**SETTINGS, "selected-inference": FEW.committed()}
    studies.begin(study, place / "victim", POOLS, 12, settings, thefts=4)
    training.train(study, 1)
    if craft is not None:
        for number in range(1, 5):
            folder.save(craft(number), studies.theft_folder(study, number))
        training.train(study, 1)
    holdings = selected_inference.Holdings(studies.load_known(study), {})
    evidence = FEW.accuse(oracle(folder.load(place / "victim")), FEW.prepare(holdings, RNG), RNG)
    return study, evidence


def test_selected_inference_is_repeated_too(tmp_path):
    study, evidence = selected(tmp_path)
    root, victim = evidence.details.root, folder.load(studies.model_folder(study, 0))
    found = judge(evidence, root, study, oracle(victim), OTHERS, RNG, retrained=4)
    assert found.method == "selected-inference" and found.p_value == evidence.p_value
    assert found.details.independent.keys() == {"one"} and found.caution == CAUTION


def test_thefts_that_were_not_made_as_the_study_says_are_refused(tmp_path):
    """Thefts that know how the private images were divided would accuse anybody."""
    study, evidence = selected(tmp_path, lambda number: trained(POOLS["private"], number, epochs=0))
    victim = folder.load(studies.model_folder(study, 0))
    with pytest.raises(Rejected, match=r"the theft \d, trained again"):
        judge(evidence, evidence.details.root, study, oracle(victim), OTHERS, RNG, retrained=4)


def test_a_victim_without_a_seed_cannot_be_trained_again(tmp_path):
    folder.save(trained(POOLS["private"], 2**40), tmp_path / "victim")
    studies.begin(tmp_path / "study", tmp_path / "victim", POOLS, 12, SETTINGS)
    training.train(tmp_path / "study", 1)
    victim = folder.load(tmp_path / "victim")
    evidence, root = accuse(tmp_path / "study", victim)
    with pytest.raises(Rejected, match="does not name its seed"):
        judge(evidence, root, tmp_path / "study", oracle(victim), OTHERS, RNG)
