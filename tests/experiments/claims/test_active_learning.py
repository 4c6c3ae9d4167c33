"""ActiveThief over HTTP, small."""

import pytest

from experiments.claims.active_learning import TRUE, ActiveLearning
from experiments.claims.command import reproduce
from zoo.training import Training


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    base = tmp_path_factory.mktemp("active")
    tiny = ActiveLearning("digits", training=Training(epochs=15), queries=(120,), rounds=2, epochs=100)
    return reproduce({"ActiveThief": tiny}, out=base / "out", cache=base / "cache", data=None, seeds=range(1))


@pytest.mark.slow
def test_every_strategy_stands_beside_random_rows_and_true_labels(results):
    rows = {row["what"].removeprefix("agreement: "): row for row in results["claims"]["ActiveThief"]["rows"]}
    assert {*rows} == {"random", "uncertainty", "k_center", "dfal", "dfal_k_center", TRUE}
    print({k: r["measured"] for k, r in rows.items()})
    assert all(0.5 < row["measured"] <= 1 for row in rows.values())
    assert all(f"random: {rows['random']['measured']:.1%}" in row["baseline"] for row in rows.values())
