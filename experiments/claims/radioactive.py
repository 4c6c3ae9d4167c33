"""C5: radioactive data in models that were trained on it, by weights and by answers, and in independent ones.

Source: Sablayrolles, Douze, Schmid, Jegou, "Radioactive data: tracing through training", ICML 2020.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
from tqdm import tqdm

from defenses.training.radioactive import Radioactive, cosines, inverse, p_of_cosines
from experiments.claims.claim import Finding, Findings, over_seeds, share
from experiments.claims.independent import accuracy, independents, labels_of, telling
from experiments.lab import Lab
from owner.evidence import Evidence
from owner.one_more import LEAST
from owner.radioactive import Pairs, RadioactiveTest
from owner.surprise import Surprise
from wire import Array, Labels
from zoo.data import Pool
from zoo.families.mlp import Mlp
from zoo.network import Network
from zoo.training import Training

TEST = RadioactiveTest(rows=500)  # without a key: no wrong ones


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
        alike: How many of them are trained as the victim is; the others are smaller, and worse.
        judges: How many more, of the first kind, the test by answers compares a suspect with.
        clean: Rows by which features are aligned.
        stolen: Rows about which a thief asks a marked victim.
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
    alike: int = 64
    judges: int = 8
    clean: int = 2000
    stolen: int = 5000

    def run(self, lab: Lab) -> Findings:
        """Marks, trains and tests; see :class:`~experiments.claims.claim.Claim`."""
        held = lab.roles(self.data, 0)
        count, alike = self.judges + self.independents, self.judges + self.alike
        innocent = independents(lab, held["control"], count, alike, self.hidden, self.training, self.rows)
        values: dict[str, dict[int, float]] = defaultdict(dict)
        found: dict[str, Counter[str]] = defaultdict(Counter)
        victims, clean = {}, held["reference"].x[: self.clean]
        for seed in tqdm(lab.seeds, desc=self.ID, unit="seed"):
            rng = np.random.default_rng([seed, 23])
            private, other = (held[role].take(_some(held[role], self.rows, rng)) for role in ("victim", "shadow"))
            asked = held["pool"].take(_some(held["pool"], self.stolen, rng)).x
            marker = self._trained(lab, other, seed, "marker")
            inverted = inverse(marker, clean)
            plain = self._trained(lab, private, seed, "victim")
            values["test accuracy, no mark"][seed] = accuracy(plain, held["evaluation"])
            for marked_share in self.shares:
                name, mark = f"{marked_share:.0%} marked", replace(self.mark, share=marked_share)
                secret = np.random.default_rng([seed, round(1e4 * marked_share)]).bytes(32).hex()
                pairs, rows = marked_rows(mark, private, marker, secret)
                victim = self._trained(lab, rows, seed, name)
                victims[f"{name}, seed {seed}"] = lab.about(victim, self.data, self.rows, held["evaluation"])
                values[f"test accuracy, {name}"][seed] = accuracy(victim, held["evaluation"])
                suspects = {
                    name: victim,
                    f"{name}, no mark in training": plain,
                    f"{name}, stolen by probabilities": self._stolen(victim, asked, victim.predict(asked), seed),
                    f"{name}, stolen by labels": self._stolen(victim, asked, labels_of(victim, asked), seed),
                }
                models = [*suspects.values(), *innocent[self.judges :]]
                kinds = [*suspects, *(self._kind(place) for place in range(self.independents))]
                answered = tested_by_answers([*innocent[: self.judges], *models], pairs, self.judges)
                for kind, model, evidence in zip(kinds, models, answered, strict=True):
                    cosine = cosines(model, marker, clean, secret, inverted)
                    by_weights = p_of_cosines(cosine, self.hidden[-1])
                    found[kind].update(
                        trials=1,
                        weights=by_weights <= 0.01,
                        zero=evidence.details.p_paired <= 0.01,
                        models=evidence.details.p_models <= 0.01,
                        both=evidence.verdict == "accused",
                    )
                    if kind in suspects:
                        values[f"mean cosine, {kind}"][seed] = float(cosine.mean())
                        values[f"log10 p by weights, {kind}"][seed] = _log10(by_weights)
                        values[f"loss difference, {kind}"][seed] = evidence.details.difference
                        values[f"z among independent models, {kind}"][seed] = evidence.details.z
        more = {"found": {kind: dict(of) for kind, of in found.items()}}
        return Findings(tuple(self._rows(values, found, lab.seeds)), {}, victims, NOTES, more)

    def _kind(self, place: int) -> str:
        return f"independent, {'alike' if place < self.alike else 'smaller'}"

    def _stolen(self, victim: Network, x: Array, answers: Array, seed: int) -> Network:
        surrogate = Network.untrained(Mlp(self.hidden), victim.card(), seed=1000 + seed)
        return surrogate.fit(x, answers, self.training, seed=seed, label="thief")

    def _trained(self, lab: Lab, pool: Pool, seed: int, label: str) -> Network:
        return lab.train(pool, seed, family=Mlp(self.hidden), training=self.training, label=label)

    def _rows(
        self, values: dict[str, dict[int, float]], found: dict[str, Counter[str]], seeds: Sequence[int]
    ) -> Iterator[Finding]:
        setting = f"{self.data}, MLP, {self.rows:,} rows; at most {TEST.rows} pairs are shown"
        published = {"log10 p by weights, 1% marked": "below -4 (ImageNet, ResNet-18)"}
        for what, of in values.items():
            yield over_seeds(
                what,
                setting,
                published.get(what, "none"),
                of,
                baseline="0" if "loss" in what or "cosine" in what else "none",
                unit="share" if "accuracy" in what else "",
            )
        marks = len(seeds) * len(self.shares)
        for kind, counts in found.items():
            for key, way in WAYS.items():
                yield share(
                    f"accused {way}: {kind}",
                    f"{marks} marks on each independent model; at 1 %",
                    "none",
                    counts[key],
                    counts["trials"],
                    seeds=seeds,
                    baseline="level 1 %",
                )


WAYS = {
    "weights": "by weights",
    "zero": "by answers, against 0",
    "models": "by answers, against models",
    "both": "by answers, both",
}
NOTES = (
    "The marker is trained on other rows than victims and independent models. No augmentation.",
    "The exact intervals of accused independent models count each with each mark; those of one model, or of one "
    "mark, are not independent.",
    "All seeds share the roles of seed 0, so that no independent model was trained on a row of a victim.",
)


def _some(pool: Pool, count: int, rng: np.random.Generator) -> Labels:
    return rng.permutation(len(pool))[:count]


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
    """Tests by their answers all models but the first ``judges``, which are the judge's."""
    vanilla, marked = (pool.take(slice(TEST.rows)) for pool in pairs)
    assert judges >= LEAST
    x = np.concatenate([vanilla.x, marked.x])
    oracles = [telling(x, labels_of(model, x), model.card(), model.predict(x)) for model in models]
    own, others = oracles[:judges], oracles[judges:]
    study = TEST.prepare(
        Pairs(vanilla, marked, {str(n): one for n, one in enumerate(own)}), np.random.default_rng(0)
    )
    return [TEST.accuse(one, study, np.random.default_rng(0)) for one in others]


def _log10(p: float) -> float:
    return float(np.log10(max(p, 1e-300)))
