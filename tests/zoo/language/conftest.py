import pytest

from tests import tiny_language


@pytest.fixture(scope="session")
def sentences():
    return tiny_language.sentences()


@pytest.fixture(scope="session")
def tiny():
    """A small language model that has learnt a little."""
    return tiny_language.tiny()
