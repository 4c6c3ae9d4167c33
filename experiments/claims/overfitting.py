"""E2: the more a victim overfits, the more precise is the shadow-model attack.

Source: Shokri, Stronati, Song, Shmatikov, "Membership Inference Attacks Against Machine Learning Models", IEEE S&P
2017, table II, and section VI-C (the entropy of predictions).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from tqdm import tqdm

from attacker.membership.gap import Gap
from attacker.membership.membership import Membership
from attacker.membership.shadow import Shadow
from experiments.claims.claim import Finding, Findings, over_seeds
from experiments.claims.spying import Division, accuracy, checked, encoded, entropy, figures, spied
from experiments.header import cores
from experiments.lab import Lab
from wire import Array
from zoo.families.mlp import Mlp
from zoo.network import Network
from zoo.training import Training

BINS = 20  # of a histogram of entropies
PUBLISHED = {  # training accuracy, test accuracy, precision
    "adult": (0.848, 0.842, 0.503),
    "mnist": (0.984, 0.928, 0.517),
    "location30": (1.000, 0.673, 0.678),
}


@dataclass(frozen=True)
class E2:
    """Training and test accuracy, the attack's precision, and the entropy of answers, on three data sets.

    Attributes:
        data: The data sets.
        rows: Rows that train the victim of each, and as many non-members.
        shadow: The attacker's rows, of each at most.
        epochs: Passes of each victim over its rows.
        lr: Greatest learning rate of victims and reference models.
        references: Reference models.
        choices: Numbers of epochs of the reference models to choose from.
        population: Rows of the shadow pool to query.
        attack_epochs: Passes of an attack model.
    """

    ID: ClassVar[str] = "E2"
    SAYS: ClassVar[str] = (
        "Overfitting drives membership inference: the gap in accuracy and the precision rise together"
    )
    SOURCE: ClassVar[str] = "Shokri et al., IEEE S&P 2017, table II"

    data: tuple[str, ...] = ("adult", "mnist", "location30")
    rows: tuple[int, ...] = (10_000, 10_000, 1200)
    shadow: tuple[int, ...] = (12_561, 10_000, 2610)
    epochs: tuple[int, ...] = (20, 20, 30)
    lr: float = 1e-3
    references: int = 4
    choices: tuple[int, ...] = (10, 14, 20, 28, 40)
    population: int = 1000
    attack_epochs: int = 20

    def run(self, lab: Lab) -> Findings:
        """Attacks each victim over HTTP; see :class:`~experiments.claims.claim.Claim`."""
        measured: dict[str, dict[int, dict[str, Any]]] = {}
        nulls: dict[str, dict[int, dict[str, float]]] = {}
        histograms: dict[str, dict[str, list[float]]] = {}
        victims = {}
        runs = [
            (*sizes, seed)
            for sizes in zip(self.data, self.rows, self.shadow, self.epochs, strict=True)
            for seed in lab.seeds
        ]
        for data, rows, shadow, epochs, seed in tqdm(runs, desc=self.ID, unit="victim"):
            pool = lab.dataset(data).pool
            division = Division.of(encoded(pool) if pool.features else pool, rows, shadow, seed)
            victim, null = (
                lab.train(part, seed, family=Mlp(), training=Training(epochs, lr=self.lr), label=f"{data}, {sort}")
                for sort, part in (("victim", division.members), ("null", division.unrelated))
            )
            server = lab.serve(f"{data}-{seed}", {"victim": (victim, ""), "null": (null, "")})
            worth, empty = spied(lab, server, ("victim", "null"), self._attacks(lab), division, data)
            nulls.setdefault(data, {})[seed] = checked(empty, division)
            about = {
                **lab.about(victim, data, rows, division.others),
                "train_accuracy": accuracy(victim, division.members),
            }
            victims[f"{data}-{seed}"] = about
            sure, drawn = self._entropies(victim, division)
            measured.setdefault(data, {})[seed] = {**worth, "entropy": sure}
            histograms.setdefault(data, drawn)  # of the first seed
        return Findings(
            tuple(row for data in measured for row in self._rows(data, measured[data], victims, nulls[data])),
            {},
            victims,
            (
                "Precision at the attack's own threshold, over equally many members and non-members.",
                "Published victims are of Google's and Amazon's services, and fully connected networks; 20 shadow "
                "models for Adult, 50 for MNIST, 60 for Location-30. Adult is encoded one-hot here.",
            ),
            {"measured": measured, "null": nulls, "entropies": histograms},
        )

    def _attacks(self, lab: Lab) -> dict[str, Membership]:
        return {
            "gap": Gap(),
            "shadow": Shadow(
                family="mlp",
                lr=self.lr,
                epochs=self.choices,
                references=self.references,
                population=self.population,
                attack_epochs=self.attack_epochs,
                jobs=cores(),
                state=lab.cache.parent / "attacker",
            ),
        }

    def _entropies(self, victim: Network, division: Division) -> tuple[dict[str, float], dict[str, list[float]]]:
        """Returns the mean normalised entropy of both sides, and the histograms."""
        values: dict[str, Array] = {
            "members": entropy(victim.predict(division.members.x)),
            "non-members": entropy(victim.predict(division.others.x)),
        }
        edges = np.linspace(0, 1, BINS + 1)
        drawn = {side: (np.histogram(of, edges)[0] / len(of)).tolist() for side, of in values.items()}
        return {side: float(of.mean()) for side, of in values.items()}, drawn

    def _rows(
        self,
        data: str,
        measured: Mapping[int, Mapping[str, Any]],
        victims: Mapping[str, Mapping[str, Any]],
        nulls: Mapping[int, Mapping[str, float]],
    ) -> list[Finding]:
        train, test, precision = (
            (f"{value:.3f}" for value in PUBLISHED[data]) if data in PUBLISHED else ("none",) * 3
        )
        setting = f"{data}, MLP, {victims[f'{data}-{next(iter(measured))}']['trained_on']:,} rows"
        accuracies = {
            "training accuracy": (train, {s: victims[f"{data}-{s}"]["train_accuracy"] for s in measured}),
            "test accuracy": (test, {s: victims[f"{data}-{s}"]["accuracy"].rate for s in measured}),
        }
        rows = [
            over_seeds(what, setting, published, dict(values), baseline="none", unit="share")
            for what, (published, values) in accuracies.items()
        ]
        gap, null = (
            ", ".join(f"{area:.3f}" for area in areas)
            for areas in (
                [of["gap"]["precision"].rate for of in measured.values()],
                [of[f"{data}: shadow"] for of in nulls.values()],
            )
        )
        baseline = f"precision of the gap {gap}; AUC of the null {null}"
        worth = {seed: of["shadow"] for seed, of in measured.items()}
        rows += figures(
            "shadow", setting, {"precision": precision}, worth, ("auc", "precision", "recall"), baseline
        )
        for side in ("members", "non-members"):
            values = {seed: of["entropy"][side] for seed, of in measured.items()}
            rows.append(
                over_seeds(f"normalised entropy, {side}", setting, "none", values, baseline="none", unit="")
            )
        return rows
