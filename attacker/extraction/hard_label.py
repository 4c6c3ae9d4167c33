"""Hard-label cryptanalytic extraction: a network with one hidden ReLU layer from labels in double precision.

Source: Carlini, Chávez-Saab, Hambitzer, Rodríguez-Henríquez, Shamir, "Polynomial Time Cryptanalytic Extraction of
Deep Neural Networks in the Hard-Label Setting", EUROCRYPT 2025 (the dual points and the planes that they span).

This is an exhibit of the paper's first step. It differs as follows. It takes one hidden layer and two classes; the
paper goes on to deeper layers. The two planes at a pair of dual points are compared for all pairs. A dual point is
found by walking along the boundary in a random direction, and located where the two planes of the boundary meet.
Signs, and all that follows the hidden layer, are the null vector of the equations that the logits are equal at
every boundary point; the paper recovers signs by further queries. Labels tell logits up to one positive factor.
They tell nothing of units that are never 0 on the boundary within the range, except the linear map that they add
there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from attacker.asking import NotApplicable
from attacker.extraction.critical_points import Stopped
from attacker.extraction.dual_points import Boundary, Duals, hidden_units
from attacker.extraction.last_layer import network_of, solve_boundary
from attacker.surrogate import class_names, new_seed
from wire import BadInput, Oracle
from wire.fits import ranges
from zoo.data.pool import Pool
from zoo.network import Network


@dataclass(frozen=True)
class HardLabel:
    """Extraction of one hidden ReLU layer from labels in double precision (EUROCRYPT 2025, an exhibit).

    Boundary points are bisected to the last digits, and the boundary's normals measured around them. From each of
    these, the boundary is followed until it bends: a hidden unit is 0 there. The weights of that unit lie in the
    plane of the normals on both sides. Where two such planes meet in a line, this line is the weights. The rest is
    linear.

    Attributes:
        lines: Lines between random rows on which boundary points are looked for, in each round.
        walks: Walks from each boundary point.
        rounds: Most rounds.
        least: Dual points that a hidden unit must have.
        tolerance: The equations of the boundary points have one solution when their least singular value is at
            most this share of the next one.
        settled: Rounds with one solution and no new hidden unit after which the search ends.
    """

    lines: int = 100
    walks: int = 2
    rounds: int = 10
    least: int = 2
    tolerance: float = 1e-6
    settled: int = 1

    def __post_init__(self) -> None:
        if min(self.lines, self.walks, self.rounds, self.settled) < 1 or self.least < 2 or not self.tolerance > 0:
            raise BadInput(
                f"{self}: lines, walks, rounds and settled must be at least 1, least at least 2, and tolerance "
                "positive"
            )

    def extract(self, oracle: Oracle, pool: Pool, rng: np.random.Generator) -> Network:
        """Finds bends of the boundary, and solves for the weights; see :class:`Extraction`. The pool is not used.

        Raises:
            NotApplicable: The model does not take rows in double precision, or has more than two classes.
            BadInput: The range of a feature is not known.
        """
        card = oracle.card
        if card.dtype != "FP64":
            raise NotApplicable(f"rows are {card.dtype}, which locates a boundary too coarsely")
        if len(class_names(card)) != 2:
            raise NotApplicable(f"the model has {len(class_names(card))} classes; expected 2")
        low, high = (end.reshape(-1) for end in ranges(card))
        boundary, found = Boundary(oracle, low, high), list[Duals]()
        weight, bias, settled = np.zeros((0, len(low))), np.zeros(0), 0
        try:
            for _ in range(self.rounds):
                x, along = boundary.starts(self.lines, rng)
                normal = boundary.normals(x, along)
                known = np.isfinite(normal).all(axis=1)
                x, normal = x[known], normal[known]
                boundary.points.append(x)
                found += [boundary.duals(x, normal, rng) for _ in range(self.walks)] if len(x) else []
                before = len(bias)
                weight, bias = hidden_units(Duals.joined(found, len(low)), self.least)
                fits = solve_boundary(weight, bias, boundary.all_points()).error < self.tolerance
                settled = settled + 1 if fits and len(bias) == before else 0
                if settled == self.settled:
                    break
        except Stopped:
            pass  # what was found by then is the copy
        last, (rows, above) = solve_boundary(weight, bias, boundary.all_points()), boundary.first
        if (last.logits(rows).argmax(axis=1) == above).mean() < 0.5:
            last = last._replace(out=-last.out, constant=-last.constant)
        return network_of(card, last.layers, seed=new_seed(rng))
