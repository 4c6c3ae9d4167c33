"""E1: how much of its training set a victim gives away, as the set grows.

Source: Shokri, Stronati, Song, Shmatikov, "Membership Inference Attacks Against Machine Learning Models", IEEE S&P
2017, section VII (precision on CIFAR-10, per class).
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
from experiments import metrics
from experiments.claims.claim import Finding, Findings, over_seeds
from experiments.claims.spying import Division, accuracy, checked, figures
from experiments.header import cores
from experiments.lab import Lab
from wire import Array
from zoo.families import FAMILIES
from zoo.training import Training

PUBLISHED = {2500: "0.78", 5000: "0.74", 10_000: "0.72", 15_000: "0.71"}


@dataclass(frozen=True)
class E1:
    """The shadow-model attack on victims with more and more rows.

    Attributes:
        data: The data set.
        sizes: Rows that train a victim, and as many non-members.
        family: Family of victims and of shadow models.
        epochs: Passes of a victim over its rows, and of the shadow models.
        lr: Greatest learning rate of victims and shadow models.
        references: Shadow models, each trained on as many rows as the victim.
        attack_epochs: Passes of an attack model.
    """

    ID: ClassVar[str] = "E1"
    SAYS: ClassVar[str] = (
        "The shadow-model attack is less precise the more rows train the victim; its recall stays near 1"
    )
    SOURCE: ClassVar[str] = "Shokri et al., IEEE S&P 2017, section VII"

    data: str = "cifar10"
    sizes: tuple[int, ...] = (2500, 5000, 10_000, 15_000)
    family: str = "cnn"
    epochs: int = 30
    lr: float = 1e-3
    references: int = 4
    attack_epochs: int = 20

    def run(self, lab: Lab) -> Findings:
        """Attacks each victim over HTTP; see :class:`~experiments.claims.claim.Claim`."""
        measured: dict[int, dict[int, dict[str, Any]]] = {}
        nulls: dict[int, dict[int, dict[str, float]]] = {}
        victims = {}
        runs = [(size, seed) for size in self.sizes for seed in lab.seeds]
        for size, seed in tqdm(runs, desc=self.ID, unit="victim"):
            division = Division.of(lab.dataset(self.data).pool, size, 2 * size, seed)
            training, family = Training(self.epochs, lr=self.lr), FAMILIES[self.family]()
            victim, null = (
                lab.train(part, seed, family=family, training=training, label=f"{sort}, {size:,}")
                for sort, part in (("victim", division.members), ("null", division.unrelated))
            )
            server = lab.serve(f"victims-{size}-{seed}", {"victim": (victim, ""), "null": (null, "")})
            shadow = Shadow(
                family=self.family,
                lr=self.lr,
                epochs=(self.epochs,),
                references=self.references,
                population=1,
                attack_epochs=self.attack_epochs,
                jobs=cores(),
                state=lab.cache.parent / "attacker",
            )
            worth: dict[str, Any] = {}
            empty: dict[str, Array] = {}
            attacks: dict[str, Membership] = {"gap": Gap(), "shadow": shadow}
            for name, attack in attacks.items():
                scores, empty[name] = (
                    lab.infer(server, model, f"{name}-{model}", attack, division.candidates, division.shadow, seed)
                    for model in ("victim", "null")
                )
                worth[name] = {
                    **metrics.membership(scores, division.member, attack.threshold),
                    "classes": _precisions(scores > (attack.threshold or 0.0), division),
                }
            nulls.setdefault(size, {})[seed] = checked(empty, division)
            measured.setdefault(size, {})[seed] = worth
            victims[f"{size}-{seed}"] = {
                **lab.about(victim, self.data, size, division.others),
                "train_accuracy": accuracy(victim, division.members),
            }
        return Findings(
            tuple(row for size in measured for row in self._rows(size, measured[size], victims, nulls[size])),
            {},
            victims,
            (
                "Published: 100 shadow models, networks of another form, a figure for each class; here the median "
                "of the classes.",
                "Where the data folder holds CIFAR-10 as JPEG images, the rows are those, not the original ones.",
                "Shadow models are trained as long as the victim, on as many rows.",
            ),
            {"measured": measured, "null": nulls},
        )

    def _rows(
        self,
        size: int,
        measured: Mapping[int, Mapping[str, Any]],
        victims: Mapping[str, Mapping[str, Any]],
        nulls: Mapping[int, Mapping[str, float]],
    ) -> list[Finding]:
        setting = f"{self.data}, {self.family}, {size:,} members among as many others"
        gap, null = (
            ", ".join(f"{value:.3f}" for value in values)
            for values in (
                [of["gap"]["classes"]["median"] for of in measured.values()],
                [of["shadow"] for of in nulls.values()],
            )
        )
        baseline = f"precision of the gap {gap}; AUC of the null {null}"
        rows = [
            over_seeds(f"{what} accuracy", setting, "none", dict(values), baseline="none", unit="share")
            for what, values in (
                ("training", {seed: victims[f"{size}-{seed}"]["train_accuracy"] for seed in measured}),
                ("test", {seed: victims[f"{size}-{seed}"]["accuracy"].rate for seed in measured}),
            )
        ]
        medians = {seed: of["shadow"]["classes"]["median"] for seed, of in measured.items()}
        rows.append(
            over_seeds(
                "shadow: precision, median of the classes",
                setting,
                PUBLISHED.get(size, "none"),
                medians,
                baseline=baseline,
                unit="share",
            )
        )
        worth = {seed: of["shadow"] for seed, of in measured.items()}
        published = {"recall": "about 1"} if size in PUBLISHED else {}
        return rows + figures("shadow", setting, published, worth, ("auc", "recall"), baseline)


def _precisions(called: Array, division: Division) -> dict[str, Any]:
    """Returns the precision of each class whose candidates are called members, and the median of these."""
    y = division.candidates.y
    assert y is not None
    found = {
        name: float(division.member[called & (y == label)].mean())
        for label, name in enumerate(division.candidates.class_names)
        if (called & (y == label)).any()
    }
    return {"each": found, "median": float(np.median(list(found.values()))) if found else None}
