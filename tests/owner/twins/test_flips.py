"""A judge's papers with flipped bytes: they are refused, or what is read of them is the same as before."""

import numpy as np
import pytest

from owner.judging import read_evidence
from owner.log.head import read_head
from owner.twins import study as studies
from owner.twins.judge import Case, judge
from tests.owner.papers import LATER, RNG, accuse, committed, oracle, prepare
from wire import BadInput
from zoo import folder

STUDY = ("study.json", "private.npz", "unseen.npz", "reference.npz")
MODELS = [f"model-{number}/{name}" for number in (0, 7) for name in ("card.json", "weights.safetensors")]


class Reached(Exception):
    """The papers were accepted: models would be trained now."""


class Trains:
    def make(self, *arguments):
        raise Reached


@pytest.fixture(scope="module")
def papers(tmp_path_factory):
    place = tmp_path_factory.mktemp("papers")
    study = prepare(place)
    committed(study, place / "log")
    victim = folder.load(studies.model_folder(study, 0))
    accuse(study, victim, place / "log").save(place / "evidence.json")
    return place


def refused(place):
    """Returns whether the papers are refused, before anything is trained or asked."""
    asked, victim = [], folder.load(place / "victim")
    try:
        evidence, head = read_evidence(place / "evidence.json"), read_head(place / "log" / "head-1.json")
        found = judge(Case(evidence, place / "study", [head], LATER), oracle(victim, asked), {}, Trains(), RNG)
    except BadInput:
        return True
    except Reached:
        return False
    assert found.outcome == "refused" and not asked
    return True


def flips(path, count):
    """Flips one bit after another, at places all over a file, and restores the file at the end."""
    content = path.read_bytes()
    try:
        for number, at in enumerate(np.linspace(0, len(content) - 1, min(count, len(content))).astype(int)):
            changed = bytearray(content)
            changed[at] ^= 1 << number % 8
            path.write_bytes(changed)
            yield at
    finally:
        path.write_bytes(content)


def read(study):
    """Returns all that a judge reads of a study."""
    plan, twins = studies.read(study), studies.load(study)
    pools = {name: pool.fingerprint for name, pool in studies.read_pools(study, plan).items()}
    return twins.root, pools, twins.labels.tolist()


def test_the_papers_as_they_are_are_accepted(papers):
    assert not refused(papers)


@pytest.mark.parametrize("name", ["evidence.json", "study/study.json"])
def test_a_flipped_bit_anywhere_is_refused(papers, name):
    for at in flips(papers / name, 150):
        assert refused(papers), at


def test_a_flipped_bit_in_a_published_head_is_refused_or_is_white_space(papers):
    path = papers / "log" / "head-1.json"
    head, found = read_head(path), 0
    for at in flips(path, 1000):
        if refused(papers):
            found += 1
        else:
            assert read_head(path) == head, at
    assert found > 300


@pytest.mark.parametrize("name", [*STUDY[1:], *MODELS])
def test_a_flipped_bit_in_rows_or_models_is_refused_or_changes_nothing(papers, name):
    """A zip file has bytes that nobody reads, such as dates, and a card has notes."""
    before, found = read(papers / "study"), 0
    for at in flips(papers / "study" / name, 60):
        if refused(papers):
            found += 1
        else:
            assert read(papers / "study") == before, at
    assert found > 30
