"""A theft that is split over keys, among the rows of harmless accounts, and when its keys are flagged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from defenses.detectors.prada import Prada
from defenses.detectors.sybils import Sybils
from defenses.monitoring.recent import Nearest, Recent
from defenses.monitoring.reference import split as split_features
from wire import Array, BadInput, Labels

_PART = 100  # rows of PRADA's calls
_SPLITS = ("turns", "random", "class")

Rows = tuple[Array, Labels]
"""Rows as the monitor observes them, ``(n, d + 4)``, and the victim's labels, ``(n,)``."""


class SplitTheft:
    """The rows of a theft, of its dummies and of harmless accounts, in one order for all splits."""

    def __init__(
        self, rng: np.random.Generator, theft: Rows, dummies: Rows, harmless: list[Rows], padding: float
    ) -> None:
        count = round(len(theft[1]) * padding / (1 - padding))
        if count > len(dummies[1]):
            raise BadInput(f"{padding:.0%} of padding takes {count} dummies; there are {len(dummies[1])}")
        self.rng, self.theft, self.others = rng, theft, len(harmless)
        streams = [theft, (dummies[0][:count], dummies[1][:count]), *harmless]
        times = [np.sort(rng.random(len(labels))) for _, labels in streams]
        self.order = np.argsort(np.concatenate(times), kind="stable")
        self.rows = np.concatenate([x for x, _ in streams])[self.order]
        self.labels = np.concatenate([labels for _, labels in streams])[self.order]
        self.sizes = [len(labels) for _, labels in streams]

    def figures(
        self, monitor: Sybils, prada: Prada, keys: Sequence[int]
    ) -> Iterator[tuple[tuple[str, int], dict[str, float]]]:
        """Yields each split and number of keys, with the figures."""
        names = [str(number) for number in range(len(self.rows))]  # every row has an owner of its own
        nearest = Recent().take(self.rows, names, monitor.window)
        for k in keys:
            for split in _SPLITS if k > 1 else _SPLITS[:1]:
                yield (split, k), self._figures(monitor, prada, nearest, k, split)

    def _figures(self, monitor: Sybils, prada: Prada, nearest: Nearest, k: int, split: str) -> dict[str, float]:
        thieves = split_over(split, self.theft[1], k, self.rng)
        dummies = thieves[self.rng.integers(len(thieves), size=self.sizes[1])]
        others = np.repeat(np.arange(k, k + self.others), self.sizes[2:])
        of = np.concatenate([thieves, dummies, others])[self.order]
        alarms = []
        for by in (monitor, replace(monitor, own=True)):
            state = by.weigh(
                by.begin(), list(map(str, of)), nearest._replace(owners=of[nearest.owners], senders=of)
            )
            alarms.append({int(name): alarm.row for name, alarm in state.alarms.items()})
        across, own = alarms
        ends: dict[str, list[int | None]] = {"prada": [], "monitor": [], "either": [], "own": []}
        asked = dict.fromkeys(ends, 0)
        for key in np.unique(thieves).tolist():
            mine = np.flatnonzero(of == key)
            alone = first_alarm(prada, (split_features(self.rows[mine])[0], self.labels[mine]))
            first = min((row for row in (alone, across.get(key)) if row is not None), default=None)
            for name, row in zip(ends, (alone, across.get(key), first, own.get(key)), strict=True):
                ends[name].append(row)
                asked[name] += int((self.order[mine[:row]] < len(thieves)).sum())
        return {
            **{name: float(np.mean([row is not None for row in rows])) for name, rows in ends.items()},
            **{f"{name}_asked": rows / len(thieves) for name, rows in asked.items()},
            "harmless_by_monitor": sum(number >= k for number in across) / self.others,
            "harmless_by_own": sum(number >= k for number in own) / self.others,
        }


def split_over(split: str, labels: Labels, k: int, rng: np.random.Generator) -> Array:
    """Returns the key of each row of a theft, ``(n,)``.

    Args:
        split: ``turns``, ``random``, or ``class``: each class has keys of its own or, with fewer keys than
            classes, shares a key with others.
        labels: The rows' classes, ``(n,)``.
        k: Number of keys.
        rng: Source of randomness for ``random``.
    """
    if split == "turns":
        return np.arange(len(labels)) % k
    if split == "random":
        return rng.integers(k, size=len(labels))
    classes = int(labels.max()) + 1
    keys = np.empty(len(labels), np.int64)
    for label in range(classes):
        mine = np.flatnonzero(labels == label)
        own = np.arange(label % k, k, classes) if k > classes else np.array([label % k])
        keys[mine] = own[np.arange(len(mine)) % len(own)]
    return keys


def first_alarm(prada: Prada, rows: Rows) -> int | None:
    """Returns the row after which PRADA flags an account; None if it never does."""
    state = prada.begin()
    for part, labels in zip(parts(rows[0], _PART), parts(rows[1], _PART), strict=True):
        state = prada.observe(state, part, labels)
        if state.alarm is not None:
            return state.alarm.row
    return None


def bare(rows: Rows) -> Rows:
    """Returns the features alone, without what the monitor adds to them."""
    return split_features(rows[0])[0], rows[1]


def parts(x: Array, size: int) -> list[Array]:
    """Cuts an array into parts of ``size`` rows; the last one may be shorter."""
    return [x[i : i + size] for i in range(0, len(x), size)]
