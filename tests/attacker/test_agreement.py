import numpy as np
import pytest
from reached import reach

from attacker.agreement import measure
from attacker.asking import NothingAnswered
from zoo.exact_interval import exact_interval

X = np.zeros((10, 2), np.float32)
X[:, 0] = np.arange(10) / 10
Y = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2, 2])


class Labels:
    """A model that gives row i the i-th of some labels."""

    def __init__(self, *labels):
        self.labels = np.array(labels)

    def predict(self, x):
        return np.eye(3, dtype=np.float32)[self.labels[np.rint(10 * x[:, 0]).astype(int)]]


VICTIM = Labels(0, 0, 0, 0, 1, 1, 1, 2, 2, 0)
COPY = Labels(0, 0, 0, 2, 1, 1, 0, 2, 2, 2)


def asked(**options):
    return reach(VICTIM.predict, shape=(2,), classes=3, **options)[0]


def test_agreement_stands_beside_that_of_a_constant_and_both_accuracies():
    oracle = asked()
    found = measure(COPY, oracle, X, Y)
    assert found.agreement == exact_interval(7, 10)
    assert (found.constant, found.label) == (exact_interval(5, 10), 0)
    assert (found.copy_accuracy, found.victim_accuracy) == (exact_interval(8, 10), exact_interval(9, 10))
    assert oracle.spent == 10


def test_without_true_labels_there_are_no_accuracies():
    found = measure(COPY, asked(), X, None)
    assert (found.copy_accuracy, found.victim_accuracy) == (None, None)


def test_an_early_end_counts_the_answered_rows():
    oracle = asked(budget=4)
    assert measure(COPY, oracle, X, Y).agreement == exact_interval(3, 4)
    assert oracle.ended is not None


def test_without_an_answer_there_is_no_agreement():
    with pytest.raises(NothingAnswered):
        measure(COPY, asked(budget=0), X, Y)
