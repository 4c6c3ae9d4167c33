"""Cryptanalysis: what answers in double precision give away, of two hidden layers and by labels alone.

Sources: Carlini, Jagielski, Mironov, "Cryptanalytic Extraction of Neural Network Models", CRYPTO 2020; Carlini,
Chávez-Saab, Hambitzer, Rodríguez-Henríquez, Shamir, "Polynomial Time Cryptanalytic Extraction of Deep Neural
Networks in the Hard-Label Setting", EUROCRYPT 2025.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from tqdm import tqdm

from attacker.extraction.cryptanalytic import Cryptanalytic
from attacker.extraction.extraction import Extraction
from attacker.extraction.hard_label import HardLabel
from attacker.extraction.targets import targets
from cli.money import MICRO
from experiments import metrics
from experiments.claims.claim import Finding, Findings, over_seeds
from experiments.lab import PRICES, Asked, Lab
from wire import Array, Card
from zoo.data import Pool
from zoo.families.mlp import Mlp
from zoo.network import Network
from zoo.training import Training

SPAN = 3.0  # features lie between -SPAN and SPAN
CLASSES = ("0", "1")
LABELS = '{ type = "label_only" }'
SERVED = 'precision = "float64"\nmax_rows = 16384\n'
NULL = "a network of the same shape, trained on the same rows and answers"


@dataclass(frozen=True)
class Cryptanalysis:
    """Fidelity and difference of logits of copies of small networks that answer in double precision.

    Attributes:
        deep: Features and hidden widths of the victims that tell probabilities.
        hard: Features and hidden widths of the victim that tells labels.
        training: Training of the victims, and of the nulls.
        rows: Rows that train a victim; labels are those of a random network of its shape.
        budget: Most rows of a theft.
        null_rows: Most of these rows that train a null.
        uniform_rows: Uniformly random rows on which copies and victims are compared.
    """

    ID: ClassVar[str] = "Cryptanalysis"
    SAYS: ClassVar[str] = (
        "Deep ReLU networks are extracted up to a worst-case error of 2^-25 to 2^-40 from answers in float64, and "
        "labels alone are enough in polynomial time"
    )
    SOURCE: ClassVar[str] = "Carlini et al., CRYPTO 2020 and EUROCRYPT 2025"

    deep: tuple[tuple[int, ...], ...] = ((10, 5, 5),)
    hard: tuple[int, ...] = (20, 10)
    training: Training = field(default_factory=lambda: Training(epochs=20))
    rows: int = 4000
    budget: int = 3_000_000
    null_rows: int = 20_000
    uniform_rows: int = 20_000

    def run(self, lab: Lab) -> Findings:
        """Steals each victim over HTTP; see :class:`~experiments.claims.claim.Claim`."""
        cases: list[tuple[tuple[int, ...], Extraction, str]] = [
            (shape, Cryptanalytic(), "") for shape in self.deep
        ]
        cases += [(self.hard, HardLabel(), LABELS)] if self.hard else []
        victims = {(shape, seed): self._victim(shape, seed) for shape, _, _ in cases for seed in lab.seeds}
        served = {
            _name(shape, bool(layers), seed): (victims[shape, seed], layers)
            for shape, _, layers in cases
            for seed in lab.seeds
        }
        server = lab.serve("victims", served, more=SERVED)
        rows = list[Finding]()
        for shape, attack, layers in cases:
            found: dict[str, dict[str, dict[int, float | None]]] = {}
            for seed in tqdm(lab.seeds, desc=str(shape), unit="theft", dynamic_ncols=True):
                name = _name(shape, bool(layers), seed)
                none = Pool(np.empty((0, shape[0]), np.float32), None, CLASSES)
                stolen = lab.attack(server, name, f"thief-{name}", attack, none, self.budget, seed)
                for whose, copy in (
                    (type(attack).__name__, stolen.model),
                    (NULL, self._null(shape, stolen, seed)),
                ):
                    measured = self._measured(copy, victims[shape, seed], bool(layers))
                    cost = {"rows": float(len(stolen.x)), "money": stolen.money / MICRO}
                    for what, value in {**measured, **cost}.items():
                        found.setdefault(whose, {}).setdefault(what, {})[seed] = value
            rows += self._findings(shape, bool(layers), found)
        return Findings(
            tuple(rows),
            {"uniform rows": {"is": f"features uniform from {-SPAN:g} to {SPAN:g}", "rows": self.uniform_rows}},
            {},
            (
                f"Victims are perceptrons of two classes, trained on {self.rows:,} uniform rows with the labels "
                "of a random network of their shape. Attacks know neither widths nor depth.",
                "Logits are compared up to a constant of each row, and those of the theft by labels up to one "
                "positive factor, which labels do not tell.",
                f"The null has the victim's own shape and up to {self.null_rows:,} of the rows that the theft "
                "asked about, which lie on lines and around the boundary.",
                f"A row costs {PRICES[0]}, and a request {PRICES[1]}.",
            ),
        )

    def _victim(self, shape: tuple[int, ...], seed: int) -> Network:
        card = Card("", shape[:1], 2, low=-SPAN, high=SPAN, class_names=CLASSES)
        teacher, victim = (Network.untrained(Mlp(shape[1:]), card, seed=s) for s in (seed + 1000, seed))
        x = np.random.default_rng([seed, 2]).uniform(-SPAN, SPAN, (self.rows, shape[0])).astype(np.float32)
        margin = _margin(teacher, x)
        victim.fit(x, (margin > np.median(margin)).astype(np.int64), self.training, seed=seed, label="victim")
        victim.module.double()  # what is served
        return victim

    def _null(self, shape: tuple[int, ...], stolen: Asked, seed: int) -> Network:
        card = Card("", shape[:1], 2, low=-SPAN, high=SPAN, class_names=CLASSES)
        rng = np.random.default_rng([seed, 4])
        chosen = rng.permutation(len(stolen.x))[: self.null_rows]
        copy = Network.untrained(Mlp(shape[1:]), card, seed=int(rng.integers(2**31)))
        taught = targets(stolen.answer[chosen], 2)
        return copy.fit(stolen.x[chosen].astype(np.float32), taught, self.training, seed=seed, label="null")

    def _measured(self, copy: Network, victim: Network, scaled: bool) -> dict[str, float]:
        x = np.random.default_rng(5).uniform(-SPAN, SPAN, (self.uniform_rows, victim.input_shape[0]))
        own, truth = copy.logits(x), victim.logits(x)
        if scaled:
            mine, its = own[:, 1] - own[:, 0], truth[:, 1] - truth[:, 0]
            own = own * max((mine @ its) / max(float(mine @ mine), 1e-300), 0.0)
        median, most = metrics.logit_difference(own, truth)
        fidelity = metrics.agreement(own.argmax(axis=1), truth.argmax(axis=1)).rate
        return {
            "fidelity, uniform rows": fidelity,
            "difference of a logit, median": median,
            "difference of a logit, most": most,
        }

    def _findings(
        self,
        shape: tuple[int, ...],
        labels: bool,
        found: Mapping[str, Mapping[str, Mapping[int, float | None]]],
    ) -> Iterator[Finding]:
        for whose, measured in found.items():
            for what, values in measured.items():
                nulls = ", ".join(f"{value:.3g}" for value in found[NULL][what].values() if value is not None)
                cost = what in ("rows", "money")
                paper = "4,000 parameters: 2^-40.4" if not labels and what.endswith("most") else "none"
                yield over_seeds(
                    what,
                    f"{'-'.join(map(str, shape))}-2, {'labels' if labels else 'probabilities'}; {whose}",
                    "4,000 parameters: 2^18.5" if not labels and what == "rows" else paper,
                    values,
                    baseline="none" if cost else f"trained on the same rows {nulls}",
                    unit="share" if what.startswith("fidelity") else "rows" if what == "rows" else "",
                )


def _name(shape: tuple[int, ...], labels: bool, seed: int) -> str:
    return f"{'labels' if labels else 'deep'}-{'-'.join(map(str, shape))}-{seed}"


def _margin(network: Network, x: Array) -> Array:
    logits = network.logits(x)
    return np.asarray(logits[:, 1] - logits[:, 0])
