import json

import numpy as np
import pytest

from experiments.__main__ import main
from experiments.studies import mapping


def test_flips_are_counted_among_marked_rows(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(mapping, "_passes", lambda *given: {"of 1": {"median": 1.0}})  # their exports take long
    path = tmp_path / "mapping.json"
    state = str(tmp_path / "state")
    sizes = ["--rows", "200", "--keys", "20"]
    main(["mapping", "--datasets", "digits", *sizes, "--state", state, "--json", str(path)])
    results = json.loads(path.read_text())
    found = results["datasets"]["digits"]
    assert results["independent"] == {"agreement": pytest.approx(0.905), "flips": pytest.approx(0.95)}
    assert found["units"] == 128 >= found["units_that_vary"] > 64 and 150 < found["cells"] <= 200
    assert np.mean(found["realised_rates"]) == pytest.approx(0.05, abs=0.01)

    far, near = found["copies"]["gaussian 0.2"], found["copies"]["float16"]
    for mapped in (far["exact"], far["median"]):  # nothing is left in common
        assert np.mean(mapped["flips"]) == pytest.approx(0.95, abs=0.06)
        assert np.mean(mapped["agreement"]) == pytest.approx(0.905, abs=0.015)
    assert near["same_cell"] > 0.9 and np.mean(near["median"]["flips"]) < 0.1
    for copy in found["copies"].values():  # rows of one cell share the decision
        flips = np.mean(copy["median"]["flips"])
        assert flips == pytest.approx(0.95 * (1 - copy["same_cell"]), abs=0.1)
        assert flips <= np.mean(copy["median"]["told_otherwise"])

    table = capsys.readouterr().out
    assert "uniform 0.05" in table and "96.18%" in table and "38%" in table
