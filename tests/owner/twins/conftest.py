"""Twins that are the same in every run, and the papers of their owner."""

import pytest

from owner.twins import study as studies
from tests.owner.papers import accuse, committed, prepare
from zoo import folder


@pytest.fixture(scope="module")
def secret():
    """The same twins in every run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("owner.twins.study.secrets.token_hex", lambda size: "17" * size)
        yield


@pytest.fixture(scope="module")
def papers(tmp_path_factory, secret):
    place = tmp_path_factory.mktemp("papers")
    study = prepare(place)
    committed(study, place / "log")
    victim = folder.load(studies.model_folder(study, 0))
    return study, place / "log", victim, accuse(study, victim, place / "log")
