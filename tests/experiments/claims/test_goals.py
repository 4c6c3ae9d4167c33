"""The three goals of a theft over HTTP, small."""

import pytest

from experiments.claims.command import reproduce, table
from experiments.claims.goals import A14, SHUFFLED, TRUE
from zoo.training import Training

TINY = A14(
    data="digits",
    hidden=8,
    training=Training(epochs=40, batch=16),
    knockoff=200,
    seeds=50,
    rounds=1,
    made=500,
    budget=100_000,
    uniform_rows=500,
)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    base = tmp_path_factory.mktemp("a14")
    return reproduce({"A14": TINY}, out=base / "out", cache=base / "cache", data=None, seeds=range(1))


@pytest.mark.slow
def test_only_the_direct_attack_reaches_the_function(results):
    rows = {(row["setting"].split("; ")[1], row["what"]): row for row in results["claims"]["A14"]["rows"]}
    methods = {key[0] for key in rows}
    assert {"Knockoff", "T-RND", TRUE, SHUFFLED} < methods
    equivalent = "functionally equivalent extraction"
    assert rows[equivalent, "fidelity, test rows"]["measured"] > 0.98
    far = {method: rows[method, "difference of a logit, median"]["measured"] for method in methods}
    assert far.pop(equivalent) < 0.1 * min(far.values())
    assert rows[SHUFFLED, "fidelity, test rows"]["measured"] < rows["Knockoff", "fidelity, test rows"]["measured"]
    assert rows[TRUE, "rows"]["measured"] == 0 and 0 < rows["Knockoff", "rows"]["measured"] <= 200
    assert "one class always" in table(results)
