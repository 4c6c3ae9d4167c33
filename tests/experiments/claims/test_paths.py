"""Path-finding over HTTP, small."""

import pytest

from experiments.claims.command import reproduce, table
from experiments.claims.paths import A3


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    base = tmp_path_factory.mktemp("a3")
    tiny = A3(trees=("iris",), tolerances=(1e-6,), uniform_rows=500)
    return reproduce({"A3": tiny}, out=base / "out", cache=base / "cache", data=None, seeds=range(1))


@pytest.mark.slow
def test_a_tree_is_found_and_stands_beside_its_null(results):
    rows = {row["what"]: row for row in results["claims"]["A3"]["rows"]}
    assert rows["agreement, test rows"]["measured"] == rows["agreement, uniform rows"]["measured"] == 1
    assert 20 < rows["rows"]["measured"] < 500 and rows["requests"]["measured"] < 100
    assert "null" in rows["agreement, test rows"]["baseline"]
    assert "answers (laplace); complete rows" in table(results)
