"""A short run of ``make chaos``."""

import random

import pytest
from run import play, table


@pytest.mark.timeout(900)  # half a minute on a quiet machine
async def test_servers_under_faults_keep_their_word(tmp_path):
    seed = random.SystemRandom().randrange(2**20)
    results = await play(tmp_path, ["sqlite", "redis"], 20, seed)
    found = [each for result in results for each in result.discrepancies]
    assert not found, f"with the seed {seed}:\n{table(results)}\n" + "\n".join(found)
    assert sum(len(result.faults) for result in results) == 20
    for result in results:
        assert result.requests["acknowledged"] > 0
