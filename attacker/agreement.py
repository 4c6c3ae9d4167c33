"""How much of a victim a copy has: the share of rows on which both give the same label."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from attacker.asking import some
from wire import Array, Labels, Oracle
from zoo.exact_interval import Interval, exact_interval
from zoo.model import Model


@dataclass(frozen=True)
class Agreement:
    """A copy beside its victim, on the rows that the victim answered.

    Attributes:
        agreement: Share of the rows on which both give the same label, with its exact 95 % interval.
        constant: The same of a model that always gives the victim's most frequent label, its trivial rival.
        label: That label.
        copy_accuracy: Share of the rows whose true label the copy gives; None without true labels.
        victim_accuracy: The same of the victim.
    """

    agreement: Interval
    constant: Interval
    label: int
    copy_accuracy: Interval | None
    victim_accuracy: Interval | None


def measure(copy: Model, oracle: Oracle, x: Array, y: Labels | None) -> Agreement:
    """Asks a victim about rows and compares its labels with those of a copy.

    Args:
        copy: The copy.
        oracle: The way to the victim; afterwards its ``ended`` says why the asking stopped early, if it did.
        x: Rows, ``(n, *input_shape)``; the copy must not have been trained on them.
        y: Their true labels, ``(n,)``, if known.

    Raises:
        WireError: Not a single row was answered.
    """
    victim = some(oracle, x).labels
    mine = copy.predict(x[: len(victim)]).argmax(axis=1)
    counts = np.bincount(victim)
    accuracies = [None, None] if y is None else [_share(labels == y[: len(victim)]) for labels in (mine, victim)]
    return Agreement(_share(mine == victim), _share(victim == counts.argmax()), int(counts.argmax()), *accuracies)


def _share(hits: Array) -> Interval:
    return exact_interval(int(hits.sum()), len(hits))
