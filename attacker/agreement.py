"""Measures the fidelity of a copy: the share of rows on which it gives the victim's label."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from attacker.asking import some
from wire import Array, Labels, Oracle
from zoo.exact_interval import Interval, exact_interval
from zoo.model import Model


@dataclass(frozen=True)
class Agreement:
    """A comparison of a copy with its victim, on the rows that the victim answered.

    Attributes:
        agreement: Share of rows on which both give the same label, with its exact 95 % interval.
        constant: Agreement of a trivial baseline that always gives the victim's most frequent label.
        label: The victim's most frequent label.
        copy_accuracy: Accuracy of the copy; None without true labels.
        victim_accuracy: Accuracy of the victim; None without true labels.
    """

    agreement: Interval
    constant: Interval
    label: int
    copy_accuracy: Interval | None
    victim_accuracy: Interval | None


def measure(copy: Model, oracle: Oracle, x: Array, y: Labels | None) -> Agreement:
    """Queries a victim and compares its labels with those of a copy.

    Args:
        copy: The copy.
        oracle: The victim's oracle; if the victim stops answering early, ``oracle.ended`` holds the reason.
        x: Rows, ``(n, *input_shape)``; the copy must not have been trained on them.
        y: The rows' true labels, ``(n,)``, if known.

    Raises:
        WireError: Not a single row was answered.
    """
    victim = some(oracle, x).labels
    copied = copy.predict(x[: len(victim)]).argmax(axis=1)
    counts = np.bincount(victim)
    accuracies = [None, None] if y is None else [_share(labels == y[: len(victim)]) for labels in (copied, victim)]
    return Agreement(
        _share(copied == victim), _share(victim == counts.argmax()), int(counts.argmax()), *accuracies
    )


def _share(hits: Array) -> Interval:
    return exact_interval(int(hits.sum()), len(hits))
