"""D: what protections do to one another: watermark and radioactive data, with DP-SGD and adversarial training.

Source: Szyller and Asokan, "Conflicting Interactions Among Protection Mechanisms for Machine Learning Models",
AAAI 2023.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
from tqdm import tqdm

from defenses.training.adversarial import Pgd
from defenses.training.backdoor import Backdoor
from defenses.training.radioactive import Radioactive
from experiments.claims.claim import Finding, Findings, over_seeds
from experiments.claims.independent import accuracy, labels_of
from experiments.claims.radioactive import marked_rows
from experiments.lab import Lab
from owner.radioactive import losses
from wire import Answer, Array, Labels
from zoo.data import Pool
from zoo.families.mlp import Mlp
from zoo.network import Network
from zoo.private import epsilon
from zoo.training import Training

Triggers = tuple[Array, Labels]
PUBLISHED = {  # test accuracy, then the metric of each protection
    "mnist": {
        "none": (".99",),
        "WM": (".99", ".97"),
        "RAD": (".98", ".284"),
        "DP": (".98",),
        "ADV": (".99", ".95"),
        "WM+DP": (".97", ".30-.36"),
        "RAD+DP": (".97", ".091"),
        "WM+ADV": (".97", ".99", ".88"),
        "RAD+ADV": (".97", ".001", ".95"),
    },
    "fashion_mnist": {
        "none": (".91",),
        "WM": (".87", ".99"),
        "RAD": (".85-.88", ".19"),
        "DP": (".86",),
        "ADV": (".87", ".69"),
        "WM+DP": (".86", ".28-.30"),
        "RAD+DP": (".84", ".11"),
        "WM+ADV": (".86", ".99", ".51"),
        "RAD+ADV": (".84", ".0007", ".69"),
    },
}
METRICS = {"WM": "trigger accuracy", "RAD": "loss difference", "ADV": "adversarial accuracy"}


@dataclass(frozen=True)
class Conflicts:
    """Trains each protection alone, and marks together with DP-SGD and with adversarial training.

    Attributes:
        data: The data sets.
        rows: Rows that train a model.
        hidden: Widths of its hidden layers; it is an MLP on pixels.
        training: The training without privacy.
        private: The training by DP-SGD.
        delta: Probability with which its guarantee may fail.
        pgd: The adversarial training, and the attack that measures it.
        backdoor: The watermark.
        radioactive: The radioactive data.
        attacked: Evaluation rows that are attacked.
    """

    ID: ClassVar[str] = "D"
    SAYS: ClassVar[str] = (
        "Watermarks fall under DP-SGD, radioactive data under adversarial training; watermarks survive the latter"
    )
    SOURCE: ClassVar[str] = "Szyller and Asokan, AAAI 2023"

    data: tuple[str, ...] = ("fashion_mnist", "mnist")
    rows: int = 2500
    hidden: tuple[int, ...] = (128,)
    training: Training = field(default_factory=lambda: Training(epochs=24, batch=128, lr=4e-3))
    private: Training = field(default_factory=lambda: Training(epochs=10, batch=250, lr=1e-2, noise=1.7))
    delta: float = 1e-4
    pgd: Pgd = field(default_factory=Pgd)
    backdoor: Backdoor = field(default_factory=Backdoor)
    radioactive: Radioactive = field(default_factory=lambda: Radioactive(radius=0.1))
    attacked: int = 1000

    def run(self, lab: Lab) -> Findings:
        """Trains and measures; see :class:`~experiments.claims.claim.Claim`."""
        rows, victims, spent = list[Finding](), {}, 0.0
        for data in self.data:
            lab.dataset(data)  # fails at once if one is missing
        for data in self.data:
            found: dict[str, dict[int, float]] = defaultdict(dict)
            for seed in tqdm(lab.seeds, desc=f"{self.ID}, {data}", unit="seed"):
                held = lab.roles(data, seed)
                rest = {role: held[role].take(slice(self.rows)) for role in ("victim", "shadow")}
                marker = lab.train(rest["shadow"], seed, family=Mlp(self.hidden), training=self.training)
                rng = np.random.default_rng([seed, 11])
                shape, classes = rest["victim"].input_shape, len(rest["victim"].class_names)
                seeds = [rng.bytes(32).hex() for _ in range(self.backdoor.triggers)]
                triggers = self.backdoor.all_triggers(seeds, shape, classes, None)
                pairs, moved = marked_rows(self.radioactive, rest["victim"], marker, rng.bytes(32).hex())
                marks = {"": rest["victim"], "WM": self.backdoor.marked(rest["victim"], *triggers), "RAD": moved}
                for name, pool in marks.items():
                    for other in ("", "DP", "ADV"):
                        model = self._trained(pool, other, seed)
                        what = "+".join(filter(None, (name, other))) or "none"
                        for metric, value in self._metrics(model, held["evaluation"], triggers, pairs, seed):
                            found[f"{what}: {metric}"][seed] = value
                victims[f"{data}-{seed}"] = lab.about(marker, data, self.rows, held["evaluation"])
            spent = epsilon(self.private, self.rows, self.delta)
            rows += self._rows(data, found)
        return Findings(tuple(rows), {}, victims, self._notes(spent))

    def _trained(self, pool: Pool, other: str, seed: int) -> Network:
        network = Network.untrained(Mlp(self.hidden), pool.card(), seed=seed)
        training = self.private if other == "DP" else self.training
        if other == "ADV":
            training = replace(training, epochs=max(1, training.epochs // 3))  # each step costs as much as eight
        assert pool.y is not None
        change = self.pgd.change(network) if other == "ADV" else None
        return network.fit(pool.x, pool.y, training, seed=seed, label=other or "plain", augment=change)

    def _metrics(
        self, model: Network, evaluation: Pool, triggers: Triggers, pairs: tuple[Pool, Pool], seed: int
    ) -> Iterator[tuple[str, float]]:
        """Yields test accuracy, trigger accuracy, loss difference and adversarial accuracy of a model."""
        yield "test accuracy", accuracy(model, evaluation)
        yield METRICS["WM"], float((labels_of(model, triggers[0]) == triggers[1]).mean())
        vanilla, marked = (losses(_answer(model, pool.x), _labels(pool)) for pool in pairs)
        yield METRICS["RAD"], float((vanilla - marked).mean())
        some = evaluation.take(slice(self.attacked))
        yield METRICS["ADV"], accuracy(model, replace(some, x=self.pgd.moved(model, some.x, seed)))

    def _rows(self, data: str, found: dict[str, dict[int, float]]) -> Iterator[Finding]:
        setting = f"{data}, MLP, {self.rows:,} rows"
        for what, of in found.items():
            name, _, metric = what.partition(": ")
            parts = [part for part in name.split("+") if part in METRICS]
            wanted = ["test accuracy", *(METRICS[part] for part in parts)]
            published = PUBLISHED.get(data, {}).get(name, ())
            place = wanted.index(metric) if metric in wanted else math.inf
            if metric not in wanted:
                continue
            without = found[f"none: {metric}"]
            yield over_seeds(
                what,
                setting,
                published[int(place)] if place < len(published) else "none",
                of,
                baseline=f"unprotected {np.mean(list(without.values())):.3g}",
                unit="share" if metric != METRICS["RAD"] else "",
            )

    def _notes(self, spent: float) -> tuple[str, ...]:
        return (
            f"DP-SGD: epsilon {spent:.2f} at delta {self.delta:g} for each row; triggers are among the rows.",
            f"Adversarial images within {self.pgd.radius} of a pixel, {self.pgd.steps} steps of {self.pgd.step} "
            "away from the model's own label; the paper's have 25 steps of 0.01.",
            "The published figures are of all rows of the data sets, CNNs and 100 epochs. Slides and paper differ "
            "for some; both are given.",
        )


def _answer(model: Network, x: Array) -> Answer:
    probs = model.predict(x)
    return Answer(probs.argmax(axis=1), probs)


def _labels(pool: Pool) -> Labels:
    assert pool.y is not None
    return pool.y
