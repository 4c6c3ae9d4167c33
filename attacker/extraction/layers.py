"""Hidden layers of a deep ReLU network, one behind the other; see :mod:`attacker.extraction.cryptanalytic`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from attacker.extraction.critical_points import Kink, Logits
from wire import Array

EQUAL = 1e-5  # relative difference of two measurements of the same number
PLACES = 40  # on a unit's hyperplane where its bend is looked for
NEAR = 1e-5  # distance from the hyperplane at which it is looked for, in units of the rows
LINES = 100  # on which such places are looked for
TRIED = 8  # critical points that tell a unit's sign
SMALL = 1e-3  # of the room around a critical point, for these
LEAST = 3  # critical points of a unit
GRID = np.linspace(0, 1, 65)


class Draw(Protocol):
    """Draws ends of n lines, ``(n, d)`` each; if rows are given, half of the ends are nearer to one of these."""

    def __call__(self, n: int, around: Array | None = None) -> tuple[Array, Array]:
        """Draws them."""
        ...


@dataclass(frozen=True, eq=False)
class Bend:
    """A critical point, and how the gradient jumps there: ``kink.bend`` times ``jump``, ``(d,)``."""

    kink: Kink
    jump: Array


@dataclass(eq=False)
class Unit:
    """A hidden unit of the layer that is looked for, up to its sign and a positive factor.

    Attributes:
        weight: Weights from the units of the layer before, ``(h,)``; NaN where these were off at all its points.
        bias: Its bias.
        points: Its critical points.
    """

    weight: Array
    bias: float
    points: list[Bend] = field(default_factory=list)

    def join(self, other: Unit, factor: float) -> None:
        """Takes over what another measurement of this unit knows, which is in other units by a factor."""
        self.weight = np.where(np.isfinite(self.weight), self.weight, factor * other.weight)
        self.points += other.points


def joined(units: Sequence[Unit]) -> list[Unit]:
    """Joins measurements of the same unit: those that agree, up to a factor, in all that both know.

    Both must know two numbers and the bias at least, so that agreement is no accident.
    """
    kept = list[Unit]()
    known = np.zeros((len(units), len(units[0].weight) + 1 if units else 1))
    for unit in units:
        new = np.append(unit.weight, unit.bias)
        both = np.isfinite(known[: len(kept)]) & np.isfinite(new)
        mine, its = np.where(both, known[: len(kept)], 0), np.where(both, new, 0)
        factor = (mine * its).sum(axis=1) / np.maximum((its**2).sum(axis=1), 1e-300)
        off = np.abs(mine - factor[:, None] * its).max(axis=1, initial=0)
        size = np.abs(mine).max(axis=1, initial=0)
        (same,) = np.nonzero((off <= EQUAL * size) & (both.sum(axis=1) >= min(3, known.shape[1])))
        if len(same):
            kept[same[0]].join(unit, float(factor[same[0]]))
            known[same[0]] = np.append(kept[same[0]].weight, kept[same[0]].bias)
        else:
            known[len(kept)] = new
            kept.append(unit)
    return kept


@dataclass(frozen=True, eq=False)
class Layers:
    """The hidden layers found so far.

    Attributes:
        features: Features of a row.
        found: Weights, ``(h, d)``, and biases, ``(h,)``, of each.
    """

    features: int
    found: tuple[tuple[Array, Array], ...] = ()

    def deeper(self, weight: Array, bias: Array) -> Layers:
        """Returns these layers and another one."""
        return Layers(self.features, (*self.found, (weight, bias)))

    def active(self, x: Array) -> Array:
        """Returns the activations of the last layer found, ``(n, h)``, or the rows themselves."""
        for weight, bias in self.found:
            x = np.maximum(x @ weight.T + bias, 0)
        return x

    def slope(self, x: Array) -> Array:
        """Returns the derivative of :meth:`active` at one row, ``(h, d)``."""
        slope = np.eye(self.features)
        for weight, bias in self.found:
            z = weight @ x + bias
            slope, x = (weight @ slope) * (z > 0)[:, None], np.maximum(z, 0)
        return slope

    def explains(self, kink: Kink) -> bool:
        """Returns whether a critical point is that of a unit found."""
        x, slope = kink.x, np.eye(self.features)
        for weight, bias in self.found:
            z, rate = weight @ x + bias, weight @ slope
            if (np.abs(z) < EQUAL * np.linalg.norm(rate, axis=1)).any():
                return True
            slope, x = rate * (z > 0)[:, None], np.maximum(z, 0)
        return False

    def unit(self, bend: Bend) -> Unit | None:
        """Returns what one critical point tells of a unit of the next layer; None if that is nothing."""
        slope, h = self.slope(bend.kink.x), self.active(bend.kink.x[None])[0]
        on = np.abs(slope).max(axis=1) > 0
        if not on.any() or on.sum() > self.features:
            return None
        part, _, rank, _ = np.linalg.lstsq(slope[on].T, bend.jump, rcond=1e-9)
        if rank < on.sum() or np.abs(slope[on].T @ part - bend.jump).max() > EQUAL * np.abs(bend.jump).max():
            return None
        part /= np.linalg.norm(part)
        weight = np.full(len(h), np.nan)
        weight[on] = part
        return Unit(weight, float(-part @ h[on]), [bend])

    def share(self, unit: Unit, logits: Logits, draw: Draw) -> float:
        """Measures at how many places on a unit's hyperplane the logits bend, as a share.

        The hyperplane of a unit of the next layer bends the logits all along, save where all that it leads to is
        off. That of a deeper unit is another one behind each bend of the layer in between. The places are drawn
        from the whole range, or, where it has hardly any, nearer to the unit's critical points.
        """
        low = self._places(unit, *draw(LINES))
        if len(low) < PLACES // 4:
            near = np.stack([bend.kink.x for bend in unit.points])
            low = np.concatenate([low, self._places(unit, *draw(LINES, near))])
        if not len(low):
            return 0.0
        weight = np.nan_to_num(unit.weight)
        along = np.stack([weight @ self.slope(x) for x in low])
        along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-300)
        told = logits(np.concatenate([low - NEAR * along, low, low + NEAR * along])).reshape(3, len(low), -1)
        bent = np.abs(told[0] - 2 * told[1] + told[2]).max(axis=1)
        return float((bent > 20 * logits.noise).mean())

    def _places(self, unit: Unit, starts: Array, ends: Array) -> Array:
        """Returns rows on lines where a unit of the next layer is 0, and all its weights are known, ``(n, d)``."""
        known = np.isfinite(unit.weight)
        weight = np.where(known, unit.weight, 0)
        lines = starts[:, None] + GRID[:, None] * (ends - starts)[:, None]

        def height(x: Array) -> Array:
            h = self.active(x)
            z: Array = np.where((h[:, ~known] > 0).any(axis=1), np.nan, h @ weight + unit.bias)
            return z

        z = height(lines.reshape(-1, self.features)).reshape(len(starts), -1)
        of, at = np.nonzero(z[:, :-1] * z[:, 1:] < 0)
        chosen = np.linspace(0, len(of) - 1, min(len(of), PLACES)).astype(int)
        of, at = of[chosen], at[chosen]
        low, high, rising = lines[of, at], lines[of, at + 1], z[of, at] < 0
        for _ in range(60):
            middle = (low + high) / 2
            below = ((height(middle) < 0) == rising)[:, None]
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return np.asarray(low)


def next_layer(layers: Layers, bends: Sequence[Bend], logits: Logits, draw: Draw, share: float) -> list[Unit]:
    """Returns the units of the layer behind those found, each seen at several critical points.

    Args:
        layers: The layers found.
        bends: Critical points of all layers.
        logits: Asks about rows.
        draw: Draws ends of lines.
        share: Least share of places on a unit's hyperplane where the logits bend.
    """
    told = [layers.unit(bend) for bend in bends if not layers.explains(bend.kink)]
    units = joined([unit for unit in told if unit is not None])
    units = joined(sorted(units, key=lambda unit: -len(unit.points)))  # some were apart for want of a third
    seen = [unit for unit in units if len(unit.points) >= LEAST]
    return [unit for unit in seen if layers.share(unit, logits, draw) >= share]


def matrix(units: Sequence[Unit], width: int) -> tuple[Array, Array]:
    """Returns the weights, ``(h, width)``, and biases, ``(h,)``, of units; weights that nothing tells are 0."""
    weight = np.array([np.nan_to_num(unit.weight) for unit in units]).reshape(-1, width)
    return weight, np.array([unit.bias for unit in units])


def turned(layers: Layers, units: Sequence[Unit], logits: Logits) -> tuple[Array, Array]:
    """Finds the signs of units; returns their weights, ``(h, w)``, and biases, ``(h,)``.

    Where one unit is 0, the row is moved so that this unit alone changes: the logits stay on the side where it is
    off (Carlini et al. 2020, section 4.4, for layers that do not grow).
    """
    weight, bias = matrix(units, len(units[0].weight))
    for number, unit in enumerate(units):
        best, sign, alone = -np.inf, 1.0, np.eye(len(units))[number]
        for bend in unit.points[:TRIED]:
            rate = weight @ layers.slope(bend.kink.x)
            move = np.linalg.lstsq(rate, alone, rcond=1e-9)[0]
            size = bend.kink.room * SMALL / np.linalg.norm(move)
            told = logits(bend.kink.x + size * np.array([[-2.0], [-1.0], [0.0], [1.0], [2.0]]) * move)
            off, on = (max(float(np.abs(told[b] - told[a]).max()), logits.noise) for a, b in ((0, 1), (3, 4)))
            clear = abs(np.log(on / off)) / (1 + np.abs(rate @ move - alone).max() / EQUAL)
            if clear > best:
                best, sign = clear, 1.0 if on > off else -1.0
        weight[number], bias[number] = sign * weight[number], sign * bias[number]
    return weight, bias
