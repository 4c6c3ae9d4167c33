"""Data-free extraction over HTTP, small."""

import pytest

from experiments.claims.command import reproduce, table
from experiments.claims.labels_without_data import FOREIGN, METHODS, HardLabels
from experiments.claims.without_data import NAMES, TRUE, Dfme

TINY = Dfme(family="mlp", rows=(2000,), batch=16, width=8)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    base = tmp_path_factory.mktemp("dfme")
    return reproduce({"DFME": TINY}, out=base / "out", cache=base / "cache", data=None, seeds=range(1))


@pytest.mark.slow
def test_each_theft_stands_beside_its_null_and_its_price(results):
    rows = {row["what"].removeprefix("agreement: "): row for row in results["claims"]["DFME"]["rows"]}
    assert set(rows) == {*NAMES.values(), TRUE}
    assert "1,904 rows asked, 0.19 at 0.0001 a row" in rows["DFME"]["setting"]
    assert "0 rows asked" in rows[TRUE]["setting"] and rows[TRUE]["measured"] > 0.5
    assert f"random rows: {rows[NAMES['random']]['measured']:.1%}" in rows["DFME"]["baseline"]
    assert "one class always" in table(results)


@pytest.mark.slow
def test_labels_alone_stand_beside_proxies_and_random_rows(tmp_path):
    tiny = HardLabels("digits", "", "mlp", rows=(500,), width=8, gan_epochs=1)
    found = reproduce({"DFMS-HL": tiny}, out=tmp_path / "out", cache=tmp_path / "cache", data=None, seeds=range(1))
    rows = {row["what"].removeprefix("agreement: "): row for row in found["claims"]["DFMS-HL"]["rows"]}
    assert set(rows) == {name for name in METHODS if FOREIGN not in name} | {TRUE}
    beside = rows["DFMS-HL of random shapes"]["baseline"]
    assert all(f"{name}: {rows[name]['measured']:.1%}" in beside for name in ("random rows", "random shapes"))
