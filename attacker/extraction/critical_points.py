"""Critical points of a piecewise linear victim on lines; see :mod:`attacker.extraction.relu`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from attacker.asking import some
from wire import Array, Oracle
from wire.tensors import DATATYPES

LEAST = {"FP32": 1e-30, "FP64": 1e-290}  # a probability below it may have lost digits
ROUNDING = {"FP32": 2e-7, "FP64": 4e-16}  # least error of a logarithm of a probability
SIDE = 1 / 8  # share of an interval over which the slope at either end is measured
FAIR = 0.01  # greatest relative error of a bend
TRIES = 4  # step sizes at a critical point
NARROW = 1e-4  # shortest interval, in units of the rows


class Stopped(Exception):
    """The victim stopped answering, or the budget is spent."""


class Logits:
    """Asks about flat rows, and keeps rows and answers.

    Attributes:
        noise: Size of the rounding errors of an answer; see :meth:`measure_noise`.
    """

    def __init__(self, oracle: Oracle) -> None:
        self._oracle = oracle
        self._form = "FP64" if oracle.card.dtype == "FP64" else "FP32"
        self._x: list[Array] = []
        self._told: list[Array] = []
        self.noise = 0.0

    def __call__(self, x: Array) -> Array:
        """Returns the logits of rows, ``(n, d)``, up to a constant of each row: ``(n, k)`` float64 of mean 0.

        Rows with a probability that is too small, or withheld, get NaN.

        Raises:
            Stopped: Not all rows were answered.
            WireError: Not a single row was answered.
        """
        rows = x.astype(DATATYPES[self._form])
        shaped = rows.reshape(-1, *self._oracle.card.input_shape)
        answer = self._oracle.collect(shaped) if self._x else some(self._oracle, shaped)
        probs = answer.probs
        if probs is None:  # an account with an alarm may get labels only
            classes = self._told[-1].shape[1] if self._told else self._oracle.card.classes
            probs = np.full((len(answer), classes), np.nan, np.float32)
        logs = np.log(np.where(probs > LEAST[self._form], probs, np.nan).astype(np.float64))
        logs -= logs.mean(axis=1, keepdims=True)
        self._x.append(rows[: len(answer)])
        self._told.append(logs)
        if len(answer) < len(rows):
            raise Stopped
        return logs

    def asked(self, most: int, rng: np.random.Generator) -> tuple[Array, Array]:
        """Returns rows with complete answers, ``(n, d)`` float64, and their logits, ``(n, k)``.

        Args:
            most: Most rows; if there are more, some are drawn.
            rng: Draws them.
        """
        told = np.concatenate(self._told)
        (whole,) = np.nonzero(np.isfinite(told).all(axis=1))
        chosen = np.sort(rng.permutation(whole)[:most])
        ends = np.cumsum([len(part) for part in self._x])
        parts = np.split(chosen, np.searchsorted(chosen, ends[:-1]))
        starts = ends - [len(part) for part in self._x]
        x = [part[rows - start] for part, rows, start in zip(self._x, parts, starts, strict=True)]
        return np.concatenate(x).astype(np.float64), told[chosen]

    def measure_noise(self, starts: Array, ends: Array) -> None:
        """Measures how far five points on very short segments are from a line, and sets :attr:`noise`."""
        steps = np.linspace(0, 1e-3, 5)
        points = starts[:, None] + steps[:, None] * (ends - starts)[:, None]
        told = self(points.reshape(-1, points.shape[2])).reshape(len(starts), 5, -1)
        bent = np.abs(told[:, 1:-1] - (told[:, :-2] + told[:, 2:]) / 2)
        usable = bent[np.isfinite(bent).all(axis=(1, 2))]
        size = float(np.median(usable.max(axis=(1, 2)))) if len(usable) else np.inf
        self.noise = max(size, ROUNDING[self._form])


@dataclass(frozen=True, eq=False)
class Kink:
    """A critical point on a line: the row where a hidden unit is 0.

    Attributes:
        x: The row, ``(d,)``.
        along: The line's direction, ``(d,)``, of length 1.
        bend: The change of the logits' slope along the line, ``(k,)``.
        room: Distance from the row within which the line has no other critical point.
    """

    x: Array
    along: Array
    bend: Array
    room: float


def kinks(logits: Logits, starts: Array, ends: Array) -> list[Kink]:
    """Finds the critical points between pairs of rows, ``(m, d)`` each.

    An interval is linear if the slopes at its ends predict its values. It has one critical point if the lines
    through its ends meet between them, and the victim's answer is there what both predict (Jagielski et al.,
    section 6.2 and figure 3). Otherwise its halves are searched.

    Raises:
        Stopped: Not all rows were answered.
    """
    span = ends - starts
    length = np.linalg.norm(span, axis=1)
    found = list[Kink]()
    fair = 8 * logits.noise / SIDE  # of a prediction
    which, a, b = np.arange(len(starts)), np.zeros(len(starts)), np.ones(len(starts))
    at = logits(np.concatenate([starts, ends]))
    fa, fb = at[: len(starts)], at[len(starts) :]
    while len(which):
        width = b - a
        inner = np.concatenate([a + SIDE * width, b - SIDE * width])
        told = logits(starts[np.tile(which, 2)] + inner[:, None] * span[np.tile(which, 2)])
        rising = (told[: len(a)] - fa) / (SIDE * width)[:, None]
        falling = (fb - told[len(a) :]) / (SIDE * width)[:, None]
        off = np.maximum(_far(fa + rising * width[:, None], fb), _far(fb - falling * width[:, None], fa))
        bend, gap = falling - rising, fb - falling * width[:, None] - fa
        meet = -(bend * gap).sum(axis=1) / np.maximum((bend**2).sum(axis=1), 1e-300)
        between = (off > fair) & (meet > SIDE * width) & (meet < (1 - SIDE) * width)
        between &= _far(gap, -bend * meet[:, None]) < fair
        tried = np.flatnonzero(between)
        where = starts[which[tried]] + (a + meet)[tried, None] * span[which[tried]]
        told = logits(where) if len(tried) else np.zeros((0, fa.shape[1]))
        single = _far(told, fa[tried] + rising[tried] * meet[tried, None]) < fair
        for i, x in zip(tried[single], where[single], strict=True):
            n = length[which[i]]
            room = float(min(meet[i], width[i] - meet[i]) * n)
            found.append(Kink(x, span[which[i]] / n, bend[i] / n, room))
        split = (off > fair) & (width * length[which] > NARROW)
        split[tried[single]] = False
        split &= np.isfinite(fa).all(axis=1) & np.isfinite(fb).all(axis=1)
        which, a, b, fa, fb = which[split], a[split], b[split], fa[split], fb[split]
        if len(which):
            middle = (a + b) / 2
            told = logits(starts[which] + middle[:, None] * span[which])
            which, a, b = np.tile(which, 2), np.concatenate([a, middle]), np.concatenate([middle, b])
            fa, fb = np.concatenate([fa, told]), np.concatenate([told, fb])
    return found


def gradient_jump(logits: Logits, kink: Kink, low: Array, high: Array) -> Array | None:
    """Measures the incoming weights of the unit at a critical point, ``(d,)``, up to a factor.

    Each feature is moved by one and by two steps, on both sides of the point. Where the second step does not
    change the logits as the first did, or where the jump of the slope is not parallel to ``bend``, another unit
    came between, and smaller steps are made.

    Returns:
        The weights, or None if no step was small enough.

    Raises:
        Stopped: Not all rows were answered.
    """
    features, out = len(low), kink.bend / np.linalg.norm(kink.bend)
    jump, left = np.zeros(features), np.arange(features)
    inward = np.where(kink.x < (low + high) / 2, 1.0, -1.0)
    apart, steps = kink.room / 2, inward * np.minimum(kink.room / 4, (high - low) / 8)
    size = np.linalg.norm(kink.bend)
    if logits.noise / np.abs(steps).max() > FAIR * size:
        return None
    for _ in range(TRIES):
        moves = np.zeros((len(left), features))
        moves[np.arange(len(left)), left] = steps[left]
        sides = [np.clip(kink.x + side * apart * kink.along, low, high) for side in (-1, 1)]
        rows = np.concatenate([part for at in sides for part in (at[None], at + moves, at + 2 * moves)])
        told = np.stack(np.split(logits(rows), 2))  # (2, 1 + 2 n, k)
        once, twice = told[:, 1 : 1 + len(left)] - told[:, :1], told[:, 1 + len(left) :] - told[:, :1]
        curved = np.abs(twice - 2 * once).max(axis=(0, 2))
        change = twice[1] - twice[0]  # (n, k)
        along = change @ out
        beside = np.abs(change - along[:, None] * out).max(axis=1)
        linear = (curved < 12 * logits.noise) & (beside < 12 * logits.noise)
        jump[left[linear]] = along[linear] / (2 * steps[left[linear]])
        left = left[~linear]
        if not len(left):
            unsure = np.linalg.norm(logits.noise / steps)  # of the jump's length
            fair = abs(jump @ kink.along - size) < FAIR * size and unsure < FAIR * np.linalg.norm(jump)
            return jump if fair else None
        steps[left] /= 4
    return None


def _far(one: Array, other: Array) -> Array:
    """Returns the greatest difference of each row, ``(n,)``; infinite for rows with NaN."""
    difference: Array = np.nan_to_num(np.abs(one - other), nan=np.inf).max(axis=1, initial=0)
    return difference
