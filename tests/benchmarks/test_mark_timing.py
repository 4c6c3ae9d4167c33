"""The benchmark of DAWN's latencies, on a few rows, and its arithmetic on made-up ones."""

import numpy as np
import pytest

from benchmarks.mark_timing import Marks, table
from wire import Answer, BadInput


def test_a_slower_answer_about_marked_rows_shows_and_an_equal_one_does_not():
    rng = np.random.default_rng(0)
    marked = rng.random(400) < 0.3
    seconds = rng.gamma(2, size=400)
    slow = Marks()._found(seconds + marked, marked, rng)
    same = Marks()._found(seconds, marked, rng)
    assert slow["auc"] > 0.65 > 0.58 > slow["null_high"] > 0.5 > slow["null_low"]
    assert same["null_low"] - 0.03 < same["auc"] < same["null_high"] + 0.03
    assert slow["median_ms"]["marked"] > slow["median_ms"]["not"] + 500


def test_each_row_is_asked_twice_and_marks_are_told_from_the_victim_s_own_labels():
    asked = []

    def ask(x):
        asked.append(float(x.sum()))
        return Answer(np.array([int(x.sum()) % 2]))

    x = np.arange(60, dtype=np.float32).reshape(60, 1)
    rounds = Marks(rows=60)._timed("toy", ask, x, np.zeros(60, int))
    assert [rounds[name]["marked"] for name in ("first", "again")] == [30, 30]
    assert sorted(asked[20:80]) == sorted(asked[80:]) and asked[20:80] != asked[80:]
    assert "toy" in table({"marks": {"toy": rounds}})


def test_too_few_rows_are_refused():
    with pytest.raises(BadInput, match="at least 50"):
        Marks(rows=3)
