"""C5: radioactive data in models that were trained on it, by weights and by answers, and in independent ones.

Source: Sablayrolles, Douze, Schmid, Jegou, "Radioactive data: tracing through training", ICML 2020.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
from tqdm import tqdm

from defenses.training.radioactive import Radioactive, cosines, p_of_cosines
from experiments.claims.claim import Finding, Findings, over_seeds, share
from experiments.claims.independent import accuracy, independents, labels_of, telling
from experiments.lab import Lab
from owner.evidence import Evidence
from owner.radioactive import LEAST, Pairs, RadioactiveTest, Surprise
from zoo.data import Pool
from zoo.families.mlp import Mlp
from zoo.network import Network
from zoo.training import Training


@dataclass(frozen=True)
class C5:
    """Marks shares of the training rows, trains on them, and looks for the mark.

    Attributes:
        data: The data set.
        shares: Shares of the rows that are marked.
        mark: The mark, whose share is replaced.
        rows: Rows that train a victim.
        hidden: Widths of its hidden layers; it is an MLP on pixels.
        training: The training of victims and of the marker, which has other rows.
        independents: Independent models in all, the same for all marks.
        alike: How many of them are trained as the victim is; the others are smaller.
        judges: How many more, of the first kind, the test by answers compares a suspect with.
        clean: Rows by which features are aligned.
    """

    ID: ClassVar[str] = "C5"
    SAYS: ClassVar[str] = "Radioactive data is detected in a model trained on it: p < 1e-4 with 1 % of marked rows"
    SOURCE: ClassVar[str] = "Sablayrolles et al., ICML 2020"

    data: str = "fashion_mnist"
    shares: tuple[float, ...] = (0.01, 0.1, 0.3)
    mark: Radioactive = field(default_factory=Radioactive)
    rows: int = 5000
    hidden: tuple[int, ...] = (128,)
    training: Training = field(default_factory=lambda: Training(epochs=24, batch=128, lr=4e-3))
    independents: int = 400
    alike: int = 8
    judges: int = 8
    clean: int = 2000

    def run(self, lab: Lab) -> Findings:
        """Marks, trains and tests; see :class:`~experiments.claims.claim.Claim`."""
        control = lab.roles(self.data, lab.seeds[0])["control"]
        count, alike = self.judges + self.independents, self.judges + self.alike
        innocent = independents(lab, control, count, alike, self.hidden, self.training, self.rows)
        values: dict[str, dict[int, float]] = defaultdict(dict)
        null: dict[str, int] = defaultdict(int)
        victims = {}
        for seed in tqdm(lab.seeds, desc=self.ID, unit="seed"):
            held = lab.roles(self.data, seed)
            private, clean = held["victim"].take(slice(self.rows)), held["reference"].x[: self.clean]
            marker = self._trained(lab, held["shadow"].take(slice(self.rows)), seed, "marker")
            plain = self._trained(lab, private, seed, "victim")
            values["test accuracy, no mark"][seed] = accuracy(plain, held["evaluation"])
            for marked_share in self.shares:
                name, mark = f"{marked_share:.0%} marked", replace(self.mark, share=marked_share)
                secret = np.random.default_rng([seed, round(1e4 * marked_share)]).bytes(32).hex()
                pairs, rows = marked_rows(mark, private, marker, secret)
                victim = self._trained(lab, rows, seed, name)
                victims[f"{name}, seed {seed}"] = lab.about(victim, self.data, self.rows, held["evaluation"])
                values[f"test accuracy, {name}"][seed] = accuracy(victim, held["evaluation"])
                units = self.hidden[-1]
                found = cosines(victim, marker, clean, secret)
                values[f"mean cosine, {name}"][seed] = float(found.mean())
                values[f"log10 p by weights, {name}"][seed] = _log10(p_of_cosines(found, units))
                tested = tested_by_answers([victim, *innocent], pairs, self.judges)
                mine, *others = tested
                values[f"loss difference, {name}"][seed] = mine.details.difference
                values[f"z among independent models, {name}"][seed] = mine.details.z
                null["suspects"] += len(others)
                null["compared with 0"] += sum(one.details.p_paired <= 0.01 for one in others)
                null["compared with models"] += sum(one.verdict == "accused" for one in others)
                null["by weights"] += sum(
                    p_of_cosines(cosines(model, marker, clean, secret), units) <= 0.01
                    for model in innocent[self.judges :]
                )
                null["found by weights"] += p_of_cosines(found, units) <= 0.01
                null["found by answers"] += mine.verdict == "accused"
                null["found against 0"] += mine.details.p_paired <= 0.01
        return Findings(tuple(self._rows(values, null, lab.seeds)), {}, victims, NOTES, {"null": dict(null)})

    def _trained(self, lab: Lab, pool: Pool, seed: int, label: str) -> Network:
        return lab.train(pool, seed, family=Mlp(self.hidden), training=self.training, label=label)

    def _rows(
        self, values: dict[str, dict[int, float]], null: dict[str, int], seeds: Sequence[int]
    ) -> list[Finding]:
        setting = f"{self.data}, MLP, {self.rows:,} rows; at most {RadioactiveTest().rows} pairs are shown"
        published = {"log10 p by weights, 1% marked": "below -4 (ImageNet, ResNet-18)"}
        rows = [
            over_seeds(
                what,
                setting,
                published.get(what, "none"),
                of,
                baseline="0" if "loss" in what or "cosine" in what else "none",
                unit="share" if "accuracy" in what else "",
            )
            for what, of in values.items()
        ]
        trials = len(seeds) * len(self.shares)
        for what, found in (
            ("by weights", "found by weights"),
            ("compared with 0", "found against 0"),
            ("compared with models", "found by answers"),
        ):
            rows.append(
                share(
                    f"independent models accused, {what}",
                    f"{self.independents} models, each with {trials} marks, at 1 %",
                    "none",
                    null[what],
                    null["suspects"],
                    seeds=seeds,
                    baseline=f"marked victims accused: {null[found]} of {trials}",
                )
            )
        return rows


NOTES = (
    "The marker is trained on other rows than victims and independent models. No augmentation.",
    "The exact intervals of accused independent models count each with each mark; those of one model, or of one "
    "mark, are not independent.",
)


def marked_rows(mark: Radioactive, private: Pool, marker: Network, secret: str) -> tuple[tuple[Pool, Pool], Pool]:
    """Returns the chosen rows without and with the mark, and the rows that train a marked model."""
    chosen = mark.chosen(private, secret)
    vanilla = private.take(chosen)
    marked = mark.marked(vanilla, marker, secret)
    x = private.x.copy()
    x[chosen] = marked.x
    return (vanilla, marked), replace(private, x=x)


def tested_by_answers(
    models: Sequence[Network], pairs: tuple[Pool, Pool], judges: int
) -> list[Evidence[Surprise]]:
    """Tests the first model and those after the judge's, which are the next ``judges``, by their answers."""
    vanilla, marked = (pool.take(slice(RadioactiveTest().rows)) for pool in pairs)
    assert judges >= LEAST
    test, x = RadioactiveTest(), np.concatenate([vanilla.x, marked.x])
    oracles = [telling(x, labels_of(model, x), model.card(), model.predict(x)) for model in models]
    suspect, own, others = oracles[0], oracles[1 : 1 + judges], oracles[1 + judges :]
    study = test.prepare(
        Pairs(vanilla, marked, {str(n): one for n, one in enumerate(own)}), np.random.default_rng(0)
    )
    return [test.accuse(one, study, np.random.default_rng(0)) for one in (suspect, *others)]


def _log10(p: float) -> float:
    return float(np.log10(max(p, 1e-300)))
