"""JbDA beside its controls, small: digits over HTTP."""

import pytest

from experiments.claims.command import reproduce, table
from experiments.claims.jbda_controls import A6, METHOD, NULL, T_RND, T_RND_NULL, VARIANTS
from zoo.training import Training

TINY = A6(data="digits", training=Training(epochs=4), families=("mlp",), seeds=16, queries=60, epochs=20)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    base = tmp_path_factory.mktemp("a6")
    return reproduce({"A6": TINY}, out=base / "out", cache=base / "cache", data=None, seeds=range(1))


def test_only_the_variants_with_answers_ask_about_new_rows(results):
    asked = {name: stream["rows"] for name, stream in results["claims"]["A6"]["streams"].items()}
    assert list(asked) == list(VARIANTS)
    assert list(asked.values()) == [60, 16, 60, 16, 60, 16]


def test_the_null_stands_beside_every_number(results):
    rows = {row["what"]: row for row in results["claims"]["A6"]["rows"]}
    null, other = (rows[f"agreement: {name}"]["measured"] for name in (NULL, T_RND_NULL))
    assert 0.2 < null < 1 and 0.2 < other < 1
    assert {row["baseline"] for row in rows.values()} == {f"without answers: {n:.1%}" for n in (null, other)}
    assert rows[f"agreement: {T_RND}"]["baseline"] == f"without answers: {other:.1%}"
    assert rows[f"agreement: {T_RND}"]["published"] == "none at this size (97.9 % after 102,400 rows)"
    assert "another architecture, mlp" in rows[f"agreement: {METHOD}"]["setting"]
    assert f"without answers: {null:.1%}" in table(results)
