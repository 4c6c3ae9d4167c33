from __future__ import annotations

import numpy as np
import pytest

from attacker.extraction.targets import targets
from wire import Answer

NAN = np.nan


def taught(probs: list[float] | None, label: int = 0) -> list[float]:
    told = None if probs is None else np.array([probs], np.float32)
    row: list[float] = targets(Answer(np.array([label]), told), 4)[0].tolist()
    return row


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ([0.5, 0.25, 0.125, 0.125], [0.5, 0.25, 0.125, 0.125]),  # full: as it is
        ([0.5, 0.3, NAN, NAN], [0.5, 0.3, 0.1, 0.1]),  # top-k: the rest is spread evenly
        ([0.33, 0.33, 0.33, 0.0], [1 / 3, 1 / 3, 1 / 3, 0.0]),  # rounded: renormalised
        ([0.7, 0.5, NAN, NAN], [0.7 / 1.2, 0.5 / 1.2, 0.0, 0.0]),  # top-k that noise or rounding lifted above 1
        ([1.1, -0.1, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]),  # noise below 0
        ([0.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]),  # rounded to nothing: the label
        ([NAN, NAN, NAN, NAN], [1.0, 0.0, 0.0, 0.0]),  # nothing told but the label
        (None, [1.0, 0.0, 0.0, 0.0]),
    ],
)
def test_what_an_answer_teaches(told: list[float] | None, expected: list[float]) -> None:
    assert taught(told) == pytest.approx(expected, abs=1e-6)


def test_the_label_chooses_the_class_of_a_one_hot_row() -> None:
    assert taught(None, label=2) == [0, 0, 1, 0]


def test_every_row_is_filled_by_itself() -> None:
    probs = np.array([[0.6, NAN, NAN], [NAN, NAN, NAN], [0.2, 0.2, 0.6]], np.float32)
    rows = targets(Answer(np.array([0, 1, 2]), probs), 3)
    assert rows == pytest.approx(np.array([[0.6, 0.2, 0.2], [0, 1, 0], [0.2, 0.2, 0.6]]), abs=1e-6)
    assert rows.dtype == np.float32
