"""What double precision gives away over HTTP, small."""

import pytest

from experiments.claims.command import reproduce, table
from experiments.claims.cryptanalysis import NULL, Cryptanalysis
from zoo.training import Training

TINY = Cryptanalysis(
    deep=((8, 4, 3),),
    hard=(6, 3),
    training=Training(epochs=5),
    rows=1000,
    budget=300_000,
    null_rows=2000,
    uniform_rows=2000,
)


@pytest.mark.slow
def test_both_attacks_reach_the_function_and_their_nulls_do_not(tmp_path):
    results = reproduce({"C": TINY}, out=tmp_path / "out", cache=tmp_path / "cache", data=None, seeds=range(1))
    rows = {(row["setting"], row["what"]): row["measured"] for row in results["claims"]["C"]["rows"]}
    for victim, attack in (("8-4-3-2, probabilities", "Cryptanalytic"), ("6-3-2, labels", "HardLabel")):
        far = {whose: rows[f"{victim}; {whose}", "difference of a logit, median"] for whose in (attack, NULL)}
        assert far[attack] < 1e-6 < 1e-3 < far[NULL]
        assert rows[f"{victim}; {attack}", "fidelity, uniform rows"] > 0.999
    assert "trained on the same rows" in table(results)
