"""A1: softmax regressions are solved for, and how rounding hinders that.

Source: Tramèr, Zhang, Juels, Reiter, Ristenpart, "Stealing Machine Learning Models via Prediction APIs", USENIX
Security 2016, sections 4.1 and 7 (rounding).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from tqdm import tqdm

from attacker.extraction.equation_solving import EquationSolving
from experiments import metrics
from experiments.claims.claim import Finding, Findings, over_seeds
from experiments.lab import Lab
from wire import Array, Labels
from wire.fits import uniform
from zoo.network import Network


@dataclass(frozen=True)
class A1:
    """Agreement of a solved softmax regression with its victim, by rows and by digits of the answers.

    Attributes:
        data: The data set.
        digits: Digits to which victims round; 0 for a victim that does not.
        uniform_rows: Uniformly random rows on which the two are compared.
    """

    ID: ClassVar[str] = "A1"
    SAYS: ClassVar[str] = (
        "Equation solving finds a softmax regression of k classes and d features exactly by k (d + 1) rows, and "
        "rounding to 4 or 5 digits does not hinder it"
    )
    SOURCE: ClassVar[str] = "Tramer et al., USENIX Security 2016, sections 4.1 and 7"

    data: str = "digits"
    digits: tuple[int, ...] = (0, 5, 4, 3, 2)
    uniform_rows: int = 5000

    def run(self, lab: Lab) -> Findings:
        """Steals each victim over HTTP; see :class:`~experiments.claims.claim.Claim`."""
        held = {seed: lab.roles(self.data, seed) for seed in lab.seeds}
        victims = {seed: lab.train(held[seed]["victim"], seed, family="softmax") for seed in lab.seeds}
        layers = {n: f'{{ type = "rounding", digits = {n} }}' if n else "" for n in self.digits}
        models = {f"{seed}-{n}": (victims[seed], layers[n]) for seed in lab.seeds for n in self.digits}
        server = lab.serve("victims", models)
        classes = victims[lab.seeds[0]].classes
        runs = [(ratio, n, seed) for ratio in (1 / classes, 1.0) for n in self.digits for seed in lab.seeds]
        found: dict[tuple[int, int], dict[str, dict[int, float | None]]] = {}
        for ratio, n, seed in tqdm(runs, desc=self.ID, unit="theft", dynamic_ncols=True):
            rng, victim, test = np.random.default_rng([seed, 3]), victims[seed], held[seed]["evaluation"]
            rows = round(ratio * classes * (victim.module[-1].in_features + 1))
            attack, pool, model = EquationSolving(ratio=ratio), held[seed]["pool"], f"{seed}-{n}"
            stolen = lab.attack(server, model, f"{model}-{rows}", attack, pool, rows, seed).model
            random = uniform(victim.card(), self.uniform_rows, rng)
            measured = {
                "agreement, test rows": _agreement(stolen, victim, test.x),
                "agreement, uniform rows": _agreement(stolen, victim, random),
                "total variation, uniform rows": metrics.total_variation(
                    stolen.predict(random), victim.predict(random)
                ),
            }
            for what, value in measured.items():
                found.setdefault((rows, n), {}).setdefault(what, {})[seed] = value
        constant = max(_most(victims[seed], held[seed]["evaluation"].x) for seed in lab.seeds)
        return Findings(
            tuple(self._found(found, classes, f"one class always: at most {constant:.1%}")),
            {"uniform rows": {"is": "features uniform over the card's range", "rows": self.uniform_rows}},
            {
                f"victim-{seed}": lab.about(
                    victims[seed], self.data, len(held[seed]["victim"]), held[seed]["evaluation"]
                )
                for seed in lab.seeds
            },
            (
                "The published figures are of Adult, Iris and other tables; these are of another data set. A "
                "thief who knows the form asks d + 1 rows where the paper asks k (d + 1): each answer has k - 1 "
                "independent logarithms.",
            ),
        )

    def _found(
        self,
        found: Mapping[tuple[int, int], Mapping[str, Mapping[int, float | None]]],
        classes: int,
        baseline: str,
    ) -> Iterator[Finding]:
        for (rows, n), measured in found.items():
            where = f"{self.data}, softmax of {classes} classes, {rows} uniform rows, own architecture, "
            where += f"answers rounded to {n} digits" if n else "answers in full"
            for what, values in measured.items():
                share = what.startswith("agreement")
                yield over_seeds(
                    what,
                    where,
                    "none on this data",
                    values,
                    baseline=baseline if what == "agreement, test rows" else "none",
                    unit="share" if share else "",
                )


def _labels(network: Network, x: Array) -> Labels:
    found: Labels = network.predict(x).argmax(axis=1)
    return found


def _agreement(stolen: Network, victim: Network, x: Array) -> float:
    return metrics.agreement(_labels(stolen, x), _labels(victim, x)).rate


def _most(victim: Network, x: Array) -> float:
    """Returns the share of a victim's most frequent label."""
    return float(np.bincount(_labels(victim, x)).max() / len(x))
