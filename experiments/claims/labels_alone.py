"""E8 and E9: what labels alone tell of members, beside confidences.

Sources: Choquette-Choo, Tramèr, Carlini, Papernot, "Label-Only Membership Inference Attacks", ICML 2021; Maini,
Yaghini, Papernot, "Dataset Inference: Ownership Resolution in Machine Learning", ICLR 2021 (the Blind Walk).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from tqdm import tqdm

from attacker.membership.blind_walk import BlindWalk
from attacker.membership.gap import Gap
from attacker.membership.label_only import LabelOnly
from attacker.membership.lira import Lira
from attacker.membership.membership import Membership
from experiments.claims.claim import Finding, Findings
from experiments.claims.spying import Division, accuracy, checked, encoded, figures, spied
from experiments.header import cores
from experiments.lab import Lab
from wire import Array
from zoo.families.mlp import Mlp
from zoo.training import Training

LABELS, FULL = '{ type = "label_only" }', ""


@dataclass(frozen=True)
class E8:
    """The label-only attack against a victim that tells labels, and LiRA against one that tells everything.

    Attributes:
        data: The data sets.
        rows: Rows that train the victim of each, and as many non-members.
        shadow: The attacker's rows, of each at most.
        epochs: Passes of each victim over its rows, and of its reference models.
        lr: Greatest learning rate of victims and reference models.
        references: Reference models, which candidates train too.
        queries: Rows to ask about, for each candidate.
    """

    ID: ClassVar[str] = "E8"
    SAYS: ClassVar[str] = "Label-only attacks reach what confidences give"
    SOURCE: ClassVar[str] = "Choquette-Choo et al., ICML 2021; Li and Zhang, CCS 2021"

    data: tuple[str, ...] = ("adult", "mnist", "location30")
    rows: tuple[int, ...] = (10_000, 10_000, 1200)
    shadow: tuple[int, ...] = (12_561, 10_000, 2610)
    epochs: tuple[int, ...] = (20, 20, 30)
    lr: float = 1e-3
    references: int = 8
    queries: int = 8

    def run(self, lab: Lab) -> Findings:
        """Attacks each victim over HTTP; see :class:`~experiments.claims.claim.Claim`."""
        measured: dict[str, dict[int, dict[str, Any]]] = {}
        nulls: dict[str, dict[int, dict[str, float]]] = {}
        victims = {}
        sizes = list(zip(self.data, self.rows, self.shadow, self.epochs, strict=True))
        for data, rows, shadow, epochs in sizes:
            for seed in tqdm(lab.seeds, desc=f"{self.ID}, {data}", unit="victim"):
                pool = lab.dataset(data).pool
                division = Division.of(encoded(pool) if pool.features else pool, rows, shadow, seed)
                training = Training(epochs, lr=self.lr)
                victim, null = (
                    lab.train(part, seed, family=Mlp(), training=training, label=f"{data}, {sort}")
                    for sort, part in (("victim", division.members), ("null", division.unrelated))
                )
                models = {"victim": victim, "null": null}
                server = lab.serve(
                    f"{data}-{seed}",
                    {
                        f"{name}-{kind}": (model, layers)
                        for name, model in models.items()
                        for kind, layers in (("labels", LABELS), ("full", FULL))
                    },
                )
                worth: dict[str, Any] = {}
                empty: dict[str, Array] = {}
                for kind, attacks in self._attacks(lab, epochs).items():
                    found, told = spied(
                        lab, server, (f"victim-{kind}", f"null-{kind}"), attacks, division, f"{data}-{kind}"
                    )
                    worth, empty = worth | found, empty | told
                nulls.setdefault(data, {})[seed] = checked(empty, division)
                measured.setdefault(data, {})[seed] = worth
                victims[f"{data}-{seed}"] = {
                    **lab.about(victim, data, rows, division.others),
                    "train_accuracy": accuracy(victim, division.members),
                }
        return Findings(
            tuple(row for data in measured for row in self._rows(data, measured[data], nulls[data])),
            {},
            victims,
            (
                "Reference models are trained as long as the victim, which labels do not tell; the attacker is "
                "given it.",
                "Every attack was also run against a model that saw no candidate, and a forest was trained on the "
                "rows alone; the run fails where an interval does not hold 0.5.",
            ),
            {"measured": measured, "null": nulls},
        )

    def _attacks(self, lab: Lab, epochs: int) -> dict[str, dict[str, Membership]]:
        """Returns the attacks by name, on labels and on confidences."""
        shared: dict[str, Any] = {
            "family": "mlp",
            "lr": self.lr,
            "epochs": (epochs,),
            "references": self.references,
            "population": 1,
            "jobs": cores(),
            "state": lab.cache.parent / "attacker",
        }
        return {
            "labels": {"gap": Gap(), **self._by_labels(shared)},
            "full": {"LiRA, confidences": Lira(**shared)},
        }

    def _by_labels(self, shared: Mapping[str, Any]) -> dict[str, Membership]:
        return {
            "label-only, one row": LabelOnly(**shared, queries=1),
            "label-only": LabelOnly(**shared, queries=self.queries),
        }

    def _rows(
        self, data: str, measured: Mapping[int, Mapping[str, Any]], nulls: Mapping[int, Mapping[str, float]]
    ) -> list[Finding]:
        setting = f"{data}, MLP, {self.rows[self.data.index(data)]:,} members among as many others"
        gap = ", ".join(f"{of['gap']['auc']:.3f}" for of in measured.values())
        rows = []
        for attack in next(iter(measured.values())):
            kind = "full" if "confidences" in attack else "labels"
            null = ", ".join(f"{of[f'{data}-{kind}: {attack}']:.3f}" for of in nulls.values())
            baseline = f"AUC: gap {gap}; null {null}"
            worth = {seed: of[attack] for seed, of in measured.items()}
            kept = ("auc", "precision") if attack == "gap" else ("auc", "0.01", "precision", "recall")
            rows += figures(attack, setting, {}, worth, kept, baseline)
        return rows


@dataclass(frozen=True)
class E9(E8):
    """The Blind Walk of dataset inference as a membership attack, beside noisy copies and confidences.

    Attributes:
        data: The data sets.
        rows: Rows that train the victim of each, and as many non-members.
        shadow: The attacker's rows, of each at most.
        epochs: Passes of each victim over its rows, and of its reference models.
        lr: Greatest learning rate of victims and reference models.
        references: Reference models, which candidates train too.
        queries: Rows to ask about, for each candidate, of the label-only attack.
        walks: Walks along each kind of noise.
        steps: Steps of a walk.
    """

    ID: ClassVar[str] = "E9"
    SAYS: ClassVar[str] = "The Blind Walk serves black-box membership inference"
    SOURCE: ClassVar[str] = "Maini et al., ICLR 2021, as future work"

    walks: int = 2
    steps: int = 4

    def _by_labels(self, shared: Mapping[str, Any]) -> dict[str, Membership]:
        walk = BlindWalk(**shared, walks=self.walks, steps=self.steps)
        return {
            "label-only": LabelOnly(**shared, queries=self.queries),
            "blind walk": walk,
            "blind walk, one of each": replace(walk, walks=1),
        }
