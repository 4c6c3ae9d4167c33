"""Cryptanalytic extraction: a deep ReLU network, layer by layer, from answers in double precision.

Source: Carlini, Jagielski, Mironov, "Cryptanalytic Extraction of Neural Network Models", CRYPTO 2020, section 4.

The paper's oracle tells one output in float64 for any real row. Here, rows lie in the card's range, and answers
are probabilities in float64, so that logits are known up to a constant of each row. Three steps differ. The paper
takes critical points whose signatures recur for the first layer's. Here, a unit belongs to the next layer if the
logits bend all along the hyperplane that its signature predicts: small networks have few regions, and several
critical points of a deep unit in one of them. Signs follow from moves that change one unit alone, as the paper has
it for layers that do not grow. Those of the last hidden layer, which may grow, follow from a regression (Jagielski
et al., USENIX Security 2020, section 6.4). How many layers there are is not given: the search ends with the layer
behind which the regression explains all answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from attacker.asking import NotApplicable, needs_probs
from attacker.extraction.critical_points import Logits, Stopped, gradient_jump, kinks
from attacker.extraction.last_layer import Solved, network_of, solve
from attacker.extraction.layers import Bend, Draw, Layers, matrix, next_layer, turned
from attacker.surrogate import new_seed
from wire import Array, BadInput, Oracle
from wire.fits import ranges
from zoo.data.pool import Pool
from zoo.network import Network


@dataclass(frozen=True)
class Cryptanalytic:
    """Cryptanalytic extraction of a deep ReLU network from answers in double precision (CRYPTO 2020).

    Lines through the range are searched for critical points, where a hidden unit is 0. The jump of the gradient
    there is the unit's weights, times the known map from the rows to the layer before. Points of the same unit
    complete each other where units of that layer were off. The layers are peeled off one behind the other. The
    hidden layers must not be wider than the rows or than the layer before, save the last one. Units that are never
    0 within the range of the features are not found; those of the last hidden layer are then part of a linear map.

    Attributes:
        lines: Lines to search in the first round; each further one searches as many as all before it.
        rounds: Most rounds.
        depth: Most hidden layers.
        share: Share of places on its hyperplane where the logits must bend for a unit to be of the next layer.
        rows: Most of the answered rows that the last layer is fitted to.
        checks: Random rows that are asked in each round, to be predicted.
        tolerance: Greatest error of a logit at which a row counts as predicted; the search ends when all rows are.
    """

    lines: int = 50
    rounds: int = 8
    depth: int = 4
    share: float = 0.6
    rows: int = 20_000
    checks: int = 2000
    tolerance: float = 1e-6

    def __post_init__(self) -> None:
        if min(self.lines, self.rounds, self.depth, self.rows, self.checks) < 1:
            raise BadInput(f"{self}: lines, rounds, depth, rows and checks must be at least 1")
        if not 0 < self.share <= 1 or not self.tolerance > 0:
            raise BadInput(f"{self}: share must lie between 0 and 1, and tolerance must be positive")

    def extract(self, oracle: Oracle, pool: Pool, rng: np.random.Generator) -> Network:
        """Finds the layers, and solves for the last one; see :class:`Extraction`. The pool is not used.

        Raises:
            NotApplicable: The model does not answer in double precision, or blurs its probabilities.
            BadInput: The range of a feature is not known.
        """
        needs_probs(oracle.card)
        if oracle.card.dtype != "FP64":
            raise NotApplicable(f"rows and answers are {oracle.card.dtype}; the errors of layers multiply")
        if any(value is not None for value in (oracle.card.top_k, oracle.card.digits, oracle.card.noise)):
            raise NotApplicable("the probabilities are rounded, noisy or incomplete, so that slopes are not told")
        low, high = (end.reshape(-1) for end in ranges(oracle.card))
        logits, bends, last = Logits(oracle), list[Bend](), None
        layers, wrong = (known := Layers(len(low))), None

        def draw(n: int, around: Array | None = None) -> tuple[Array, Array]:
            ends = rng.uniform(low, high, (2, n, len(low)))
            if around is not None and len(around):
                near = around[rng.integers(len(around), size=n // 2)]
                ends[:, : n // 2] = near + rng.uniform(size=(n // 2, 1)) * (ends[:, : n // 2] - near)
            return ends[0], ends[1]

        try:
            logits.measure_noise(*draw(8))
            for lines in (self.lines << max(0, number - 1) for number in range(self.rounds)):
                for kink in kinks(logits, *draw(lines, wrong)):
                    if not known.explains(kink):
                        jump = gradient_jump(logits, kink, low, high)
                        bends += [] if jump is None else [Bend(kink, jump)]
                layers, last = self._peeled(logits, bends, draw, rng)
                known = layers.deeper(last.weight, last.bias)
                logits(draw(self.checks)[0])
                x, told = logits.asked(self.rows, rng)
                wrong = x[last.difference(layers.active(x), told) > self.tolerance]
                if not len(wrong):
                    break
        except Stopped:
            pass  # what was found by then is the copy
        if last is None:
            last = solve(*matrix([], len(low)), *logits.asked(self.rows, rng))
        return network_of(oracle.card, [*layers.found, *last.layers], seed=new_seed(rng))

    def _peeled(
        self, logits: Logits, bends: Sequence[Bend], draw: Draw, rng: np.random.Generator
    ) -> tuple[Layers, Solved]:
        """Finds layer behind layer; returns those before the last one, and the last one with what follows it."""
        x, told = logits.asked(self.rows, rng)
        layers = Layers(x.shape[1])
        found = []
        for _ in range(self.depth):
            units = next_layer(layers, bends, logits, draw, self.share)
            weight, bias = matrix(units, len(layers.active(x[:1])[0]))
            found.append((layers, solve(weight, bias, layers.active(x), told)))
            if found[-1][1].error < self.tolerance or not units:
                break
            layers = layers.deeper(*turned(layers, units, logits))
        return min(found, key=lambda pair: pair[1].error)
