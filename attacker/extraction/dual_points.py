"""Points where a decision boundary bends, by labels alone; see :mod:`attacker.extraction.hard_label`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from attacker.asking import some
from attacker.extraction.critical_points import Stopped
from wire import Array, Oracle

HALVINGS = 50
BESIDE = 1e-8  # distance from the boundary within which it counts as straight, in units of the rows
BEYOND = 1e-3  # distance behind a bend where the boundary is looked at again
SIZE = 1e-4  # steps that measure a normal
SKEW = 1e-6  # greatest difference of a normal by steps forth and back
PLANE = 1e-5  # greatest distance of a direction of length 1 from a plane that it lies in


@dataclass(frozen=True, eq=False)
class Duals:
    """Points where the boundary bends, since a hidden unit is 0 there.

    Attributes:
        x: The points, ``(n, d)``.
        normals: The boundary's normals on both sides, of length 1, ``(n, 2, d)``.
    """

    x: Array
    normals: Array

    @staticmethod
    def joined(parts: Sequence[Duals], features: int) -> Duals:
        """Returns all dual points of several walks."""
        x = [np.zeros((0, features)), *(part.x for part in parts)]
        return Duals(np.concatenate(x), np.concatenate([np.zeros((0, 2, features)), *(p.normals for p in parts)]))


class Boundary:
    """Asks for labels of two classes, and keeps points on the boundary between them.

    Attributes:
        points: The points on the boundary that were found, ``(n, d)`` each.
        first: The first rows that were asked about, ``(n, d)``, and whether their label is above 0, ``(n,)``.
    """

    def __init__(self, oracle: Oracle, low: Array, high: Array) -> None:
        self._oracle, self._low, self._high = oracle, low, high
        self.points: list[Array] = []
        self.first = np.zeros((0, len(low))), np.zeros(0, np.bool_)

    def all_points(self) -> Array:
        """Returns the points on the boundary that were found, ``(n, d)``."""
        return np.concatenate([np.zeros((0, len(self._low))), *self.points])

    def side(self, x: Array) -> Array:
        """Returns whether rows, ``(..., d)``, have a label above 0; rows out of the range, or with NaN, are moved.

        Raises:
            Stopped: Not all rows were answered.
        """
        rows = np.clip(np.where(np.isnan(x), self._low, x), self._low, self._high).reshape(
            -1, *self._oracle.card.input_shape
        )
        answer = self._oracle.collect(rows) if self._oracle.spent else some(self._oracle, rows)
        if len(answer) < len(rows):
            raise Stopped
        above = answer.labels > 0
        if not len(self.first[0]):
            self.first = rows.reshape(-1, x.shape[-1]), above
        return np.asarray(above.reshape(x.shape[:-1]))

    def crossing(self, x: Array, along: Array, reach: float | Array) -> Array:
        """Returns where lines through rows cross the boundary, ``(...)``; NaN if the labels at their ends agree.

        Args:
            x: Rows, ``(..., d)``.
            along: Directions, likewise.
            reach: How far the lines go, forth and back.
        """
        back = np.broadcast_to(-np.asarray(reach, np.float64), x.shape[:-1]).copy()
        forth = -back
        ends = self.side(np.stack([x + back[..., None] * along, x + forth[..., None] * along]))
        for _ in range(HALVINGS):
            middle = (back + forth) / 2
            same = self.side(x + middle[..., None] * along) == ends[0]
            back, forth = np.where(same, middle, back), np.where(same, forth, middle)
        return np.where(ends[0] == ends[1], np.nan, (back + forth) / 2)

    def starts(self, n: int, rng: np.random.Generator) -> tuple[Array, Array]:
        """Finds points on the boundary between random rows; returns them and the lines' directions, ``(m, d)``."""
        ends = rng.uniform(self._low, self._high, (2, n, len(self._low)))
        middle, half = ends.mean(axis=0), (ends[1] - ends[0]) / 2
        length = np.linalg.norm(half, axis=1)
        along = half / length[:, None]
        x = middle + self.crossing(middle, along, length)[:, None] * along
        found = np.isfinite(x).all(axis=1)
        return x[found], along[found]

    def normals(self, x: Array, along: Array) -> Array:
        """Measures the boundary's normals at its points, ``(n, d)``, of length 1 and towards labels above 0.

        Steps along all directions across ``along`` lead off the boundary by what the normal says. A second
        measurement starts from the first normal. NaN where steps forth and back tell different normals.
        """
        for reach in (8 * SIZE, SIZE):
            unit = np.broadcast_to(np.eye(x.shape[1]), (*x.shape, x.shape[1]))
            whole = np.concatenate([np.nan_to_num(along)[:, :, None], unit], axis=2)
            across = np.linalg.qr(whole)[0][:, :, 1:].swapaxes(1, 2)  # (n, d - 1, d)
            moved = x[:, None, None] + SIZE * np.array([1, -1])[:, None, None] * across[:, None]
            lines = np.broadcast_to(along[:, None, None], moved.shape)
            off = self.crossing(moved, lines, reach) / SIZE  # (n, 2, d - 1)
            slope = (off[:, 0] - off[:, 1]) / 2
            skew = np.abs(off[:, 0] + off[:, 1]).max(axis=1)
            normal = along - np.einsum("nk,nkd->nd", slope, across)
            normal /= np.linalg.norm(normal, axis=1, keepdims=True)
            normal[~(skew < SKEW * (1 + np.abs(slope).max(axis=1)))] = np.nan
            along = normal
        ahead = self.side(x + SIZE * np.nan_to_num(along))
        return np.where(ahead[:, None], along, -along)

    def duals(self, x: Array, normal: Array, rng: np.random.Generator) -> Duals:
        """Walks along the boundary in a random direction from each of its points, to where it bends."""
        along = rng.standard_normal(x.shape)
        along -= (along * normal).sum(axis=1, keepdims=True) * normal
        along /= np.linalg.norm(along, axis=1, keepdims=True)
        room = np.where(along > 0, self._high - x, x - self._low) / np.maximum(np.abs(along), 1e-12)
        straight, bent = np.zeros(len(x)), room.min(axis=1) - 2 * BEYOND
        for share in (2.0 ** -np.arange(8))[::-1]:  # the first bend, not one behind it
            ahead = share * (room.min(axis=1) - 2 * BEYOND)
            still = self._straight(x + ahead[:, None] * along, normal)
            straight = np.where(still & (ahead < bent), ahead, straight)
            bent = np.where(~still & (ahead < bent), ahead, bent)
        for _ in range(HALVINGS):
            middle = (straight + bent) / 2
            still = self._straight(x + middle[:, None] * along, normal)
            straight, bent = np.where(still, middle, straight), np.where(still, bent, middle)
        behind = x + (bent + BEYOND)[:, None] * along
        behind = behind + self.crossing(behind, normal, BEYOND)[:, None] * normal
        use = np.isfinite(behind).all(axis=1) & (bent > 2 * BEYOND)
        other = np.full_like(x, np.nan)
        other[use] = self.normals(behind[use], normal[use])
        at = ((behind - x) * other).sum(axis=1) / (along * other).sum(axis=1)  # where both planes meet
        near = np.abs(at - bent) < BEYOND / 4
        self.points += [x, behind[use]]
        dual = x + at[:, None] * along
        return Duals(dual[near], np.stack([normal, other], axis=1)[near])

    def _straight(self, x: Array, normal: Array) -> Array:
        ahead, back = self.side(np.stack([x + BESIDE * normal, x - BESIDE * normal]))
        return np.asarray(ahead & ~back)


def hidden_units(duals: Duals, least: int) -> tuple[Array, Array]:
    """Finds the hidden units that dual points share; returns weights of length 1, ``(h, d)``, and biases.

    A unit's weights lie in the plane of the two normals at each of its dual points, since it is all that differs
    between them, up to the normals' unknown lengths. So two planes that meet in a line tell them, unless the line
    is a normal of both points, which then lie beside the same region.

    Args:
        duals: The dual points.
        least: Dual points of a unit.
    """
    basis = np.linalg.qr(duals.normals.swapaxes(1, 2))[0]  # (n, d, 2)
    left, right = np.triu_indices(len(basis), 1)
    u, sizes, _ = np.linalg.svd(np.einsum("pdi,pdj->pij", basis[left], basis[right]))
    line = np.einsum("pdi,pi->pd", basis[left], u[:, :, 0])
    off = np.linalg.norm(line - _onto(basis[right], line), axis=1)
    own = np.abs(np.einsum("pkd,pd->pk", np.concatenate([duals.normals[left], duals.normals[right]], 1), line))
    apart = np.abs(((duals.x[left] - duals.x[right]) * line).sum(axis=1))
    good = (off < PLANE) & (sizes[:, 1] < 1 - PLANE) & (own.max(axis=1) < 1 - PLANE) & (apart < 10 * PLANE)
    weight, bias = np.zeros((0, duals.x.shape[1])), np.zeros(0)
    for pair in np.flatnonzero(good):
        w = line[pair]
        if np.any(np.abs(weight @ w) > 1 - PLANE):
            continue
        b = -float(w @ (duals.x[left[pair]] + duals.x[right[pair]]) / 2)
        inside = np.linalg.norm(w - _onto(basis, np.broadcast_to(w, (len(basis), len(w)))), axis=1) < 10 * PLANE
        if (inside & (np.abs(duals.x @ w + b) < 10 * PLANE)).sum() >= least:
            weight, bias = np.vstack([weight, w]), np.append(bias, b)
    return weight, bias


def _onto(basis: Array, line: Array) -> Array:
    """Projects directions, ``(n, d)``, onto planes, ``(n, d, 2)``."""
    return np.asarray(np.einsum("ndi,nei,ne->nd", basis, basis, line))
