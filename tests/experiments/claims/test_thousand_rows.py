"""A4 on images, small: digits over HTTP."""

import pytest

from experiments.claims.command import reproduce, table
from experiments.claims.thousand_rows import ANOTHER, ANSWERS, PLAIN, TRUE, ThousandRows
from zoo.training import Training

TINY = ThousandRows("digits", Training(epochs=15), "cnn", rows=60, epochs=20, rounds=1, steps=10)


@pytest.mark.slow
def test_every_method_stands_beside_true_labels_and_another_victim(tmp_path):
    found = reproduce({"A4-images": TINY}, out=tmp_path / "o", cache=tmp_path / "c", data=None, seeds=range(1))
    rows = {(row["what"], row["setting"].split("; ")[1]): row for row in found["claims"]["A4-images"]["rows"]}
    alone = rows[f"agreement: {TRUE}", "answers: none"]["measured"]
    assert rows[f"agreement: {ANOTHER}", "answers: none"]["measured"] > 0.5
    for answer in ANSWERS:
        row = rows[f"agreement: {PLAIN}", f"answers: {answer}"]
        assert 0.2 < row["measured"] <= 1 and f"without the API: {alone:.1%}" in row["baseline"]
        assert "60 rows, 0.01" in row["setting"]
    assert "80.8 % (Praetorian)" in table(found)
