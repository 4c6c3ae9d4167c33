"""Functionally equivalent extraction of a network with one hidden layer of ReLU units.

Source: Jagielski, Carlini, Berthelot, Kurakin, Papernot, "High Accuracy and High Fidelity Extraction of Neural
Networks", USENIX Security 2020, section 6 (functionally equivalent extraction). The first step is that of Carlini,
Jagielski, Mironov, "Cryptanalytic Extraction of Neural Network Models", CRYPTO 2020, section 4.2.

The paper's oracle gives one logit in float64 for any real row. Here, the answers are probabilities in float32, and
rows lie in the card's range. The logits are known up to a constant of each row, and all of them are used. A hidden
unit that is never 0 within the range only adds a linear map there; the surrogate has that map as units that are
always active. The paper's last step, which refines the weights by gradient descent, is L-BFGS in float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from attacker.asking import NotApplicable, needs_probs
from attacker.extraction.critical_points import Kink, Logits, Stopped, gradient_jump, kinks
from attacker.extraction.last_layer import network_of, solve
from attacker.extraction.lbfgs import minimise
from attacker.surrogate import new_seed, numbers
from wire import Array, BadInput, Card, Oracle
from wire.fits import ranges
from zoo.data.pool import Pool
from zoo.network import Network

ALIKE = 0.99  # least cosine of two directions that are the same
NEAR = 1e-3  # distance of a critical point from its unit's hyperplane, in units of the rows


@dataclass(frozen=True)
class Relu:
    """Functionally equivalent extraction of one hidden ReLU layer (USENIX Security 2020).

    On a line, the logits are piecewise linear, and bend where a hidden unit is 0 (a critical point). The jump of
    the gradient there is the outer product of the unit's incoming and outgoing weights, up to a common factor.
    When every unit's direction is known, the outgoing weights, and which side of each unit is active, are a
    linear regression. Neither the number of units nor rows of the victim's kind are needed; lines between rows
    of a pool find the units that matter to it sooner.

    Attributes:
        lines: Lines to search in each round.
        rounds: Most rounds.
        idle: Rounds without a new hidden unit after which the search ends.
        rows: Most of the answered rows that the weights are fitted to.
        steps: Most iterations of L-BFGS.
    """

    lines: int = 16
    rounds: int = 50
    idle: int = 8
    rows: int = 20_000
    steps: int = 100

    def __post_init__(self) -> None:
        if min(self.lines, self.rounds, self.idle, self.rows) < 1 or self.steps < 0:
            raise BadInput(f"{self}: lines, rounds, idle and rows must be at least 1, and steps at least 0")

    def extract(self, oracle: Oracle, pool: Pool, rng: np.random.Generator) -> Network:
        """Finds the hidden units, and solves for the weights; see :class:`Extraction`.

        Raises:
            NotApplicable: The model discloses labels only, or blurs its probabilities.
            BadInput: The range of a feature is not known.
        """
        needs_probs(oracle.card)
        blurred = oracle.card.top_k, oracle.card.digits, oracle.card.noise
        if any(value is not None for value in blurred):
            raise NotApplicable("the probabilities are rounded, noisy or incomplete, so that slopes are not told")
        low, high = (end.reshape(-1) for end in ranges(oracle.card))
        own = numbers(pool.x).reshape(len(pool), len(low))
        logits, units = Logits(oracle), Units(len(low))
        try:
            logits.measure_noise(_points(8, low, high, own, rng), _points(8, low, high, own, rng))
            without = 0
            for _ in range(self.rounds):
                before = len(units)
                ends = _points(2 * self.lines, low, high, own, rng)
                found = kinks(logits, ends[: self.lines], ends[self.lines :])
                for kink in sorted(found, key=lambda kink: -kink.room * np.linalg.norm(kink.bend)):
                    if not units.holds(kink):
                        jump = gradient_jump(logits, kink, low, high)
                        if jump is not None:
                            units.add(kink, jump)
                without = 0 if len(units) > before else without + 1
                if without == self.idle:
                    break
        except Stopped:
            pass  # what was found is fitted to what was answered
        x, told = logits.asked(self.rows, rng)
        return solved(oracle.card, units, x, told, self.steps, seed=new_seed(rng))


def _points(n: int, low: Array, high: Array, own: Array, rng: np.random.Generator) -> Array:
    """Draws ends of lines, ``(n, d)``: half of them rows of the pool, if there are any, and the others random.

    A random row varies a share of the features, from their least value up to some height; in half of the random
    rows, most of these features are near it.
    """
    share, height = rng.uniform(size=(2, n, 1))
    power = rng.choice([0.25, 1.0], size=(n, 1))
    drawn = np.where(rng.uniform(size=(n, len(low))) < share, height**power * rng.uniform(size=(n, len(low))), 0)
    rows = low + (high - low) * drawn
    if len(own):
        taken = rng.uniform(size=n) < 0.5
        rows[taken] = own[rng.integers(len(own), size=int(taken.sum()))]
    return np.asarray(rows)


class Units:
    """The hidden units that were found.

    Attributes:
        weight: Incoming weights, of length 1 and unknown sign, ``(h, d)``.
        bias: Their biases, ``(h,)``.
        out: Direction of the outgoing weights, of length 1, ``(h, k)``.
    """

    def __init__(self, features: int) -> None:
        self.weight, self.bias = np.zeros((0, features)), np.zeros(0)
        self.out: Array | None = None

    def __len__(self) -> int:
        return len(self.bias)

    def holds(self, kink: Kink) -> bool:
        """Returns whether a critical point is that of a known unit."""
        if self.out is None:
            return False
        far = np.abs(self.weight @ kink.x + self.bias)
        alike = np.abs(self.out @ kink.bend) > ALIKE * np.linalg.norm(kink.bend)
        fits = alike & (far < np.maximum(kink.room, NEAR) * np.abs(self.weight @ kink.along))
        return bool(fits.any())

    def add(self, kink: Kink, jump: Array) -> None:
        """Adds the unit of a critical point, whose gradient jumps by ``bend`` times ``jump``, ``(d,)``."""
        weight, out = jump / np.linalg.norm(jump), kink.bend / np.linalg.norm(kink.bend)
        self.weight = np.vstack([self.weight, weight])
        self.bias = np.append(self.bias, -weight @ kink.x)
        self.out = out[None] if self.out is None else np.vstack([self.out, out])


def solved(card: Card, units: Units, x: Array, told: Array, steps: int, *, seed: int) -> Network:
    """Returns the network with these hidden units that gives the logits of rows.

    Args:
        card: The victim's card.
        units: The hidden units.
        x: Rows, ``(n, d)``.
        told: Their logits, ``(n, k)``, each row of mean 0.
        steps: Most iterations of L-BFGS.
        seed: Seed of weights that are then overwritten.
    """
    found = solve(units.weight, units.bias, x, told)
    network = network_of(card, found.layers, seed=seed)
    if steps and len(x):
        minimise(network, x.reshape(-1, *card.input_shape), told, _error, steps, gradient=1e-14, change=1e-18)
    network.module.float()
    return network


def _error(logits: torch.Tensor, told: torch.Tensor) -> torch.Tensor:
    return functional.mse_loss(logits - logits.mean(dim=1, keepdim=True), told)
