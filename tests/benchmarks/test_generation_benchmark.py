"""The benchmark of generation, at tiny sizes."""

import pytest

from benchmarks.generation import WAYS, Generation, table
from wire import BadInput


def test_all_ways_tell_as_many_tokens():
    results = Generation(streams=(1, 3), prompt=4, tokens=5, rounds=1).run()
    for found in results["streams"].values():
        assert all(found["tokens_per_cpu_second"][name]["median"] > 0 for name in WAYS)
    assert "of plain" in table(results)


def test_texts_must_fit_the_context():
    with pytest.raises(BadInput, match="fewer than 128"):
        Generation(prompt=64, tokens=64)
