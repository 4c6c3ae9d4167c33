"""The benchmark of floods: its bodies are small and refused, and the client beside them is answered."""

import pytest

from benchmarks.flood import SMALL, Flood, small_bodies, table
from wire import BadInput


def test_bodies_are_small_and_inflate_to_much():
    made = small_bodies()
    assert len(made) >= 10 and all(len(body) <= SMALL for body, _ in made.values())


@pytest.mark.slow
def test_a_flood_is_refused_and_the_client_is_answered(tmp_path):
    results = Flood(connections=4, rounds=1, seconds=0.5).run(tmp_path)
    floods = results["floods"]
    assert floods["alone"]["ratio_of_medians"]["median"] == 1
    for name, statuses in (("one key", {"400", "413", "429"}), ("no key", {"401"})):
        (client,), (flood,) = floods[name]["client"], floods[name]["flood"]
        assert client["answers"] > 0 and not client["errors"]
        assert flood["answers"] == 0 and set(flood["errors"]) <= statuses
    assert "four keys" in table(results)


def test_a_size_that_cannot_be_measured_is_refused():
    with pytest.raises(BadInput, match="connections must be at least 4"):
        Flood(connections=1)
