"""E5: what mitigations leave of membership inference.

Source: Shokri, Stronati, Song, Shmatikov, "Membership Inference Attacks Against Machine Learning Models", IEEE S&P
2017, section VIII-C and table III.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from tqdm import tqdm

from attacker.membership.gap import Gap
from attacker.membership.membership import Membership
from attacker.membership.rmia import Rmia
from attacker.membership.shadow import Shadow
from defenses.answers.memguard import train_classifier
from experiments.claims.claim import Finding, Findings, over_seeds
from experiments.claims.spying import Division, accuracy, checked, figures, spied
from experiments.header import cores
from experiments.lab import Lab
from wire import Array, BadInput
from zoo import folder
from zoo.families.mlp import Mlp
from zoo.network import Network
from zoo.private import epsilon
from zoo.training import Training

ANSWERS: Mapping[str, str] = {
    "none": "",
    "top-3": '{ type = "top_k", k = 3 }',
    "top-1": '{ type = "top_k", k = 1 }',
    "label only": '{ type = "label_only" }',
    "rounding to 3 digits": '{ type = "rounding", digits = 3 }',
    "rounding to 1 digit": '{ type = "rounding", digits = 1 }',
    "temperature 5": '{ type = "temperature", temperature = 5.0 }',
    "temperature 20": '{ type = "temperature", temperature = 20.0 }',
}
MEMGUARD = "MemGuard"
TRAININGS: Mapping[str, Mapping[str, Any]] = {
    "L2 1e-4": {"weight_decay": 1e-4},
    "L2 1e-3": {"weight_decay": 1e-3},
    "L2 1e-2": {"weight_decay": 1e-2},
    "early stopping": {"held_out": 0.2, "patience": 3},
    "DP-SGD": {"noise": 0.5, "clip": 1.0, "epochs": 60, "batch": 128, "lr": 5e-3},
}
MITIGATIONS = (*ANSWERS, MEMGUARD, *TRAININGS)
PUBLISHED = {  # Purchase-100: test accuracy, attack accuracy, precision, recall
    "none": (0.66, 0.92, 0.87, 1.00),
    "top-3": (0.66, 0.92, 0.87, 0.99),
    "top-1": (0.66, 0.89, 0.83, 1.00),
    "label only": (0.66, 0.66, 0.60, 0.99),
    "rounding to 3 digits": (0.66, 0.92, 0.87, 0.99),
    "rounding to 1 digit": (0.66, 0.89, 0.83, 1.00),
    "temperature 5": (0.66, 0.88, 0.86, 0.93),
    "temperature 20": (0.66, 0.84, 0.83, 0.86),
    "L2 1e-4": (0.68, 0.87, 0.81, 0.96),
    "L2 1e-3": (0.72, 0.77, 0.73, 0.86),
    "L2 1e-2": (0.63, 0.53, 0.54, 0.52),
}


@dataclass(frozen=True)
class E5:
    """The shadow-model attack, and RMIA offline, against each mitigation.

    Attributes:
        data: The data set.
        rows: Rows that train a victim, and as many non-members.
        shadow: The attacker's rows, at most.
        epochs: Passes of a victim over its rows.
        lr: Greatest learning rate of victims and reference models.
        references: Reference models.
        choices: Numbers of epochs of the reference models to choose from.
        population: Rows of the shadow pool to query.
        attack_epochs: Passes of an attack model.
        mitigations: Those to measure; all if none is named.
        budget: MemGuard's mean sum of absolute changes of a row's probabilities.
    """

    ID: ClassVar[str] = "E5"
    SAYS: ClassVar[str] = (
        "Fewer classes, rounding and temperature hardly hinder the shadow-model attack; regularisation does, and "
        "labels alone leave the gap"
    )
    SOURCE: ClassVar[str] = "Shokri et al., IEEE S&P 2017, table III"

    data: str = "location30"
    rows: int = 1200
    shadow: int = 2610
    epochs: int = 30
    lr: float = 1e-3
    references: int = 4
    choices: tuple[int, ...] = (10, 14, 20, 28, 40)
    population: int = 1000
    attack_epochs: int = 10
    mitigations: tuple[str, ...] = ()
    budget: float = 1.0

    def __post_init__(self) -> None:
        if not set(self.mitigations) <= set(MITIGATIONS):
            raise BadInput(f"mitigations {self.mitigations}; expected some of {', '.join(MITIGATIONS)}")

    def run(self, lab: Lab) -> Findings:
        """Attacks each victim over HTTP; see :class:`~experiments.claims.claim.Claim`."""
        measured: dict[str, dict[str, dict[int, dict[str, Any]]]] = {}
        tests: dict[str, dict[int, float | None]] = {}
        nulls, victims = {}, {}
        for seed in lab.seeds:
            division = Division.of(lab.dataset(self.data).pool, self.rows, self.shadow, seed)
            models = self._models(lab, division)
            server = lab.serve(
                f"victims-{seed}", {name: model for pair in models.values() for name, model in pair}
            )
            empty: dict[str, Array] = {}
            for name, pair in tqdm(models.items(), desc=f"{self.ID}, seed {seed}", unit="mitigation"):
                attacks = self._attacks(lab, name)
                names = (pair[0][0], pair[1][0])
                worth, found = spied(lab, server, names, attacks, division, name)
                empty |= found
                tests.setdefault(name, {})[seed] = accuracy(pair[0][1][0], division.others)
                for attack, of in worth.items():
                    measured.setdefault(name, {}).setdefault(attack, {})[seed] = of
            nulls[seed] = checked(empty, division)
            victim = models["none"][0][1][0]
            victims[f"victim-{seed}"] = lab.about(victim, self.data, self.rows, division.others)
        return Findings(
            tuple(row for name in measured for row in self._rows(name, measured[name], tests[name], nulls)),
            {},
            victims,
            (
                "Published figures are of Purchase-100, whose records are not public; ours are of other data.",
                "Every attack was also run against a model that saw no candidate, and a forest was trained on the "
                "rows alone; the run fails where an interval does not hold 0.5.",
                *(
                    [f"DP-SGD: epsilon {self._epsilon():.1f} at delta 1e-4 for each row."]
                    if "DP-SGD" in measured
                    else []
                ),
                "MemGuard's classifier, where it is measured, learns from half of the members and as many of the "
                "attacker's rows, for want of others.",
                "Reference models have the victim's L2 penalty, and no other mitigation of its training.",
            ),
            {"measured": measured, "null": nulls},
        )

    def _epsilon(self) -> float:
        training = replace(Training(self.epochs, lr=self.lr), **TRAININGS["DP-SGD"])
        return epsilon(training, self.rows, 1e-4)

    def _models(self, lab: Lab, division: Division) -> dict[str, list[tuple[str, tuple[Network, str]]]]:
        """Returns for each mitigation the victim and the model of the null: name, network and answer layers."""
        plain = Training(self.epochs, lr=self.lr)
        models: dict[str, list[tuple[str, tuple[Network, str]]]] = {}
        reference = division.shadow.take(slice(-self.rows // 2, None)).x  # of the owner; no candidate
        for number, name in enumerate(MITIGATIONS):
            if self.mitigations and name not in (*self.mitigations, "none"):
                continue
            training = replace(plain, **TRAININGS.get(name, {}))
            models[name] = []
            for sort, pool in (("victim", division.members), ("null", division.unrelated)):
                model = lab.train(pool, division.seed, family=Mlp(), training=training, label=f"{sort}, {name}")
                layers = ANSWERS.get(name, "")
                if name == MEMGUARD:
                    path = lab.parties.folder / f"memguard-{sort}-{division.seed}"
                    own = pool.x[: len(reference)]
                    folder.save(train_classifier(model, own, reference, seed=division.seed), path)
                    layers = f'{{ type = "memguard", folder = "{path.resolve()}", budget = {self.budget} }}'
                models[name].append((f"{sort}-{number}", (model, layers)))
        return models

    def _attacks(self, lab: Lab, name: str) -> dict[str, Membership]:
        shared: dict[str, Any] = {
            "family": "mlp",
            "lr": self.lr,
            "epochs": self.choices,
            "references": self.references,
            "population": self.population,
            "weight_decay": TRAININGS.get(name, {}).get("weight_decay", 0.0),
            "online": False,
            "jobs": cores(),
            "state": lab.cache.parent / "attacker",
        }
        attacks: dict[str, Membership] = {
            "gap": Gap(),
            "shadow": Shadow(**shared, attack_epochs=self.attack_epochs),
        }
        return attacks if name == "label only" else {**attacks, "rmia": Rmia(**shared)}

    def _rows(
        self,
        name: str,
        measured: Mapping[str, Mapping[int, Mapping[str, Any]]],
        test: Mapping[int, float | None],
        nulls: Mapping[int, Mapping[str, float]],
    ) -> list[Finding]:
        setting = f"{self.data}, MLP, {self.rows:,} members among as many others; mitigation: {name}"
        names = ("accuracy", "precision", "recall")
        published = PUBLISHED.get(name)
        known = (
            dict(zip(names, (f"{value:.2f} (Purchase-100)" for value in published[1:]), strict=True))
            if published
            else {}
        )
        gap = ", ".join(f"{of['auc']:.3f}" for of in measured["gap"].values())
        rows = [
            over_seeds(
                "test accuracy",
                setting,
                f"{published[0]:.2f} (Purchase-100)" if published else "none",
                test,
                baseline=f"one class: {1 / 30:.1%}" if self.data == "location30" else "none",
                unit="share",
            )
        ]
        for attack in measured:
            null = ", ".join(f"{of[f'{name}: {attack}']:.3f}" for of in nulls.values())
            baseline = f"AUC: gap {gap}; null {null}"
            kept = {"gap": ("auc", "precision"), "shadow": ("auc", *names), "rmia": ("auc", "0.01")}[attack]
            rows += figures(attack, setting, known if attack == "shadow" else {}, measured[attack], kept, baseline)
        return rows
