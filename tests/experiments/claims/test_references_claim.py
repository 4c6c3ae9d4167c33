"""Attacks with reference models beside a null, small: digits over HTTP."""

import pytest

from experiments.claims.command import reproduce, table
from experiments.claims.references import BLIND, E7, POLICIES

TINY = E7(data="digits", family="mlp", candidates=128, references=4, offline=4, epochs=(8,), population=60)


@pytest.mark.slow
def test_every_attack_is_measured_beside_its_null(tmp_path):
    results = reproduce({"E7": TINY}, out=tmp_path / "out", cache=tmp_path / "cache", data=None, seeds=range(1))
    more = results["claims"]["E7"]["more"]
    assert set(more["null"][0]) == {BLIND, *more["measured"]}
    assert {name.partition(":")[0] for name in more["measured"]} == set(POLICIES)
    assert {"labels: label-only-4", "full: rmia-offline-1", "top3: lira-4"} <= set(more["measured"])
    assert all(worth[0]["members"] == worth[0]["others"] == 128 for worth in more["measured"].values())
    assert "rmia-offline-1" in table(results)
