"""Linear models stolen by labels over HTTP, small."""

import pytest

from experiments.claims.command import reproduce
from experiments.claims.linear_labels import A4
from zoo.training import Training


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    base = tmp_path_factory.mktemp("a4")
    tiny = A4(
        training=Training(epochs=30, batch=32, lr=0.2),
        tolerances=(1e-4,),
        rows=(100,),
        epochs=20,
        uniform_rows=500,
    )
    return reproduce({"A4": tiny}, out=base / "out", cache=base / "cache", data=None, seeds=range(1))


@pytest.mark.slow
def test_lowd_and_meek_beat_retraining_and_true_labels(results):
    rows = {(row["setting"], row["what"]): row for row in results["claims"]["A4"]["rows"]}
    for victim in ("logistic", "linear SVM"):
        where = f"breast_cancer, {victim}, labels only"
        exact = rows[f"{where}: Lowd-Meek, boundary to 0.0001", "agreement, uniform rows"]["measured"]
        retrained = rows[f"{where}: uniform retraining, 100 rows", "agreement, uniform rows"]["measured"]
        assert exact > 0.995 > retrained
        assert rows[f"{where}: uniform retraining, 100 rows", "rows"]["measured"] == 100
        assert rows[f"{where}: Lowd-Meek, boundary to 0.0001", "rows"]["measured"] < 2050
        assert "true labels" in rows[f"{where}: line search, 100 rows", "agreement, test rows"]["baseline"]
