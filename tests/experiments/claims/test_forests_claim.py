"""Ensembles stolen over HTTP, small."""

import pytest

from experiments.claims import forests
from experiments.claims.command import reproduce, table
from zoo.families.trees import Forest


@pytest.mark.slow
def test_an_ensemble_is_found_and_stands_beside_its_null(tmp_path, monkeypatch):
    monkeypatch.setattr(forests, "VICTIMS", {"forest of 2 trees": Forest(2, 2)})
    tiny = forests.Forests(data=("iris",), uniform_rows=500)
    results = reproduce({"TRA": tiny}, out=tmp_path / "out", cache=tmp_path / "cache", data=None, seeds=range(1))
    rows = {(row["what"], row["setting"].split("; ")[1]): row for row in results["claims"]["TRA"]["rows"]}
    for attack in forests.ATTACKS:
        assert rows["agreement, uniform rows", attack]["measured"] > 0.99
    assert rows["agreement, test rows", forests.LEAVES]["measured"] == 1
    assert rows["rows", forests.LEAVES]["measured"] < rows["rows", forests.LABELS]["measured"]
    assert rows["money", forests.LABELS]["measured"] > 0
    assert "null" in table(results)
