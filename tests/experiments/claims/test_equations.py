"""Equation solving over HTTP, small."""

import pytest

from experiments.claims.command import reproduce, table
from experiments.claims.equations import A1

TINY = A1(digits=(0, 2), uniform_rows=500)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    base = tmp_path_factory.mktemp("a1")
    return reproduce({"A1": TINY}, out=base / "out", cache=base / "cache", data=None, seeds=range(1))


def test_answers_in_full_give_the_victim_and_rounded_ones_less(results):
    rows = {
        (int(row["setting"].split(" uniform rows")[0].split()[-1]), "rounded" in row["setting"], row["what"]): row
        for row in results["claims"]["A1"]["rows"]
    }
    assert {key[0] for key in rows} == {65, 650}
    for asked in (65, 650):
        for kind in ("test", "uniform"):
            assert rows[asked, False, f"agreement, {kind} rows"]["measured"] == 1
        assert rows[asked, False, "total variation, uniform rows"]["measured"] < 1e-4
    rounded = [rows[asked, True, "total variation, uniform rows"]["measured"] for asked in (65, 650)]
    assert 1e-3 < rounded[1] < rounded[0]
    assert "answers rounded to 2 digits" in table(results)
