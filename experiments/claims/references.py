"""E7: what reference models find of a victim's members, beside attacks without any.

Sources: Zarifzadeh, Liu, Shokri, "Low-Cost High-Power Membership Inference Attacks", ICML 2024; Carlini, Chien,
Nasr, Song, Terzis, Tramèr, "Membership Inference Attacks From First Principles", IEEE S&P 2022.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from tqdm import tqdm

from attacker.membership.confidence import Confidence
from attacker.membership.gap import Gap
from attacker.membership.label_only import LabelOnly
from attacker.membership.lira import Lira
from attacker.membership.membership import Membership
from attacker.membership.rmia import Rmia
from attacker.membership.shadow import Shadow
from experiments import metrics
from experiments.claims.claim import Finding, Findings, over_seeds
from experiments.header import cores
from experiments.lab import Lab
from experiments.null import blind, check
from zoo.data import roles

BASELINE, BLIND = "gap", "blind"
POLICIES: Mapping[str, str] = {
    "full": "",
    "top3": '{ type = "rounding", digits = 2 }, { type = "top_k", k = 3 }, '
    '{ type = "gaussian_noise", sigma = 0.05 }',
    "labels": '{ type = "label_only" }',
}
PUBLISHED = {
    "rmia-offline-1": "AUC 68.6, TPR 1.19 % at 0.01 % FPR (CIFAR-10)",
    "rmia-offline-2": "AUC 70.1, TPR 1.71 % at 0.01 % FPR (CIFAR-10)",
    "rmia-offline-4": "AUC 71.0, TPR 2.91 % at 0.01 % FPR (CIFAR-10)",
    "lira-16": "AUC .686, TPR 5.93 % at 0.1 % FPR (CIFAR-10, 16 models)",
    "confidence": "AUC .592, TPR 0.09 % at 0.1 % FPR (CIFAR-10)",
}


@dataclass(frozen=True)
class _Run:
    """What came of a seed: about the victim, what each attack is worth, and the areas of the null by attack."""

    victim: Mapping[str, Any]
    measured: Mapping[str, Mapping[str, Any]]
    null: Mapping[str, float]


@dataclass(frozen=True)
class E7:
    """Membership attacks with and without reference models on one victim, beside a null and a blind baseline.

    Attributes:
        data: The data set.
        family: Family of the victims and of the reference models.
        candidates: Members among the candidates, and as many non-members.
        references: Reference models, online.
        offline: Reference models, offline.
        epochs: Numbers of epochs of the reference models to choose from.
        population: Rows of the shadow pool to query.
    """

    ID: ClassVar[str] = "E7"
    SAYS: ClassVar[str] = (
        "RMIA finds members at low false positive rates with one to four reference models, where LiRA needs many"
    )
    SOURCE: ClassVar[str] = "Zarifzadeh et al., ICML 2024, table 2"

    data: str = "fashion_mnist"
    family: str = "cnn"
    candidates: int = 5000
    references: int = 16
    offline: int = 4
    epochs: tuple[int, ...] = (4, 8, 16)
    population: int = 2500

    def run(self, lab: Lab) -> Findings:
        """Attacks each victim under each policy over HTTP; see :class:`~experiments.claims.claim.Claim`."""
        runs = {seed: self._attacked(lab, seed) for seed in lab.seeds}
        names = next(iter(runs.values())).measured
        return Findings(
            tuple(row for name in names for row in self._rows(name, runs)),
            {},
            {f"victim-{seed}": run.victim for seed, run in runs.items()},
            self._notes(),
            {"measured": {name: {seed: run.measured[name] for seed, run in runs.items()} for name in names}}
            | {"null": {seed: run.null for seed, run in runs.items()}},
        )

    def _attacked(self, lab: Lab, seed: int) -> _Run:
        """Attacks a victim, and a model that has not seen the candidates."""
        held = lab.roles(self.data, seed)
        own = int(np.random.default_rng([seed, 2]).integers(2**63))  # the seed of the demo's victim
        victim = lab.train(held["victim"], own, family=self.family, label="victim")
        null = lab.train(held["control"], seed, family=self.family, label="null")
        models = {"victim": victim, "null": null}
        served = {f"{name}-{policy}": (of, POLICIES[policy]) for name, of in models.items() for policy in POLICIES}
        server = lab.serve(f"victims-{seed}", served)
        others = held["evaluation"].take(slice(self.candidates))
        candidates, member = roles.candidates(held["victim"], others, seed)
        measured, empty = {}, {BLIND: blind(candidates.x, member)}
        runs = [(policy, *of) for policy in POLICIES for of in self._attacks(lab, policy).items()]
        for policy, name, attack in tqdm(runs, desc=f"{self.ID}, seed {seed}", unit="attack", dynamic_ncols=True):
            scores = {
                model: lab.infer(
                    server,
                    f"{model}-{policy}",
                    f"{model}-{policy}-{name}",
                    attack,
                    candidates,
                    held["shadow"],
                    seed,
                )
                for model in models
            }
            empty[f"{policy}: {name}"] = scores["null"]
            measured[f"{policy}: {name}"] = metrics.membership(scores["victim"], member, attack.threshold)
        about = lab.about(victim, self.data, len(held["victim"]), held["evaluation"])
        return _Run(about, measured, check(empty, member))

    def _attacks(self, lab: Lab, policy: str) -> dict[str, Membership]:
        shared: dict[str, Any] = {
            "family": self.family,
            "epochs": self.epochs,
            "population": self.population,
            "jobs": cores(),
            "state": lab.cache.parent / "attacker",
        }
        online = {**shared, "references": self.references}
        offline = {**shared, "references": self.offline, "online": False}
        by_labels: dict[str, Membership] = {
            BASELINE: Gap(),
            f"shadow-{self.offline}": Shadow(**offline),
            f"label-only-{self.references}": LabelOnly(**online),
        }
        if policy == "labels":
            return by_labels
        few = [number for number in (1, 2, 4) if number <= self.offline]
        return {
            **by_labels,
            "confidence": Confidence(),
            **{f"rmia-offline-{number}": Rmia(**{**offline, "references": number}) for number in few},
            f"rmia-{self.references}": Rmia(**online),
            f"lira-offline-{self.offline}": Lira(**offline),
            f"lira-{self.references}": Lira(**online),
        }

    def _rows(self, name: str, runs: Mapping[int, _Run]) -> list[Finding]:
        policy, _, attack = name.partition(": ")
        setting = f"{self.data}, victim {self.family}; {self.candidates:,} members among as many others; {policy}"
        gap, null = (
            ", ".join(f"{area:.3f}" for area in areas)
            for areas in (
                [run.measured[f"{policy}: {BASELINE}"]["auc"] for run in runs.values()],
                [run.null[name] for run in runs.values()],
            )
        )
        published = PUBLISHED.get(attack, "none in this setting")
        area = {seed: run.measured[name]["auc"] for seed, run in runs.items()}
        baseline = f"{BASELINE} {gap}; null {null}"
        rows = [over_seeds(f"AUC: {attack}", setting, published, area, baseline=baseline, unit="")]
        for fpr in ("0.01", "0.001"):
            rates = {seed: run.measured[name]["tpr_at"][fpr][0] for seed, run in runs.items()}
            what = f"TPR at {float(fpr):.1%} FPR: {attack}"
            rows.append(over_seeds(what, setting, published, rates, baseline=f"{float(fpr):.1%}", unit="share"))
        return rows

    def _notes(self) -> tuple[str, ...]:
        return (
            "Every attack was also run against a model that saw no candidate (null), and a forest was trained on "
            "the rows alone; the run fails where an interval does not hold 0.5.",
            "The attacker has as many labelled rows as there are candidates. Reference models are trained on half "
            "of these (offline), or of these and the candidates (online); the victim, on twice as many.",
            "How long reference models are trained, a and the temperature are chosen without the truth about the "
            "victim's candidates.",
        )
