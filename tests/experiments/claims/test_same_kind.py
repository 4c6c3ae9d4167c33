"""Victims without gradients, stolen over HTTP, small."""

import pytest

from experiments.claims import same_kind
from experiments.claims.command import reproduce


@pytest.mark.slow
def test_a_surrogate_of_the_same_kind_stands_beside_another_and_its_null(tmp_path, monkeypatch):
    monkeypatch.setattr(same_kind, "KINDS", ("knn",))
    tiny = {"A4-kinds": same_kind.SameKind(rows=(150,), epochs=5)}
    results = reproduce(tiny, out=tmp_path / "out", cache=tmp_path / "cache", data=None, seeds=range(1))
    rows = {row["setting"].split(", ")[3]: row for row in results["claims"]["A4-kinds"]["rows"]}
    assert rows["knn surrogate"]["measured"] > 0.75 and rows["mlp surrogate"]["measured"] > 0.3
    assert all("true labels" in row["baseline"] and "rows for 0.0160" in row["setting"] for row in rows.values())
