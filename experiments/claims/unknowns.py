"""A2: regressions and perceptrons are solved for by as many rows as they have unknowns.

Source: Tramèr, Zhang, Juels, Reiter, Ristenpart, "Stealing Machine Learning Models via Prediction APIs", USENIX
Security 2016, section 4.1.2 and table 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
from tqdm import tqdm

from attacker.extraction.equation_solving import EquationSolving
from attacker.extraction.knockoff import Knockoff
from experiments import metrics
from experiments.claims.claim import Finding, Findings, over_seeds
from experiments.lab import Lab
from wire import Array, Feature
from zoo.data import Pool
from zoo.data.dataset import Dataset
from zoo.data.roles import draw
from zoo.families import Family
from zoo.families.logistic import Softmax
from zoo.families.mlp import Mlp
from zoo.families.svm import Svm
from zoo.training import Training

Form = Literal["softmax", "one_vs_rest", "mlp"]
HIDDEN = (20,)
VICTIMS: Mapping[Form, Family] = {"softmax": Softmax(), "one_vs_rest": Svm("linear"), "mlp": Mlp(HIDDEN)}
PUBLISHED: Mapping[tuple[Form, float], str] = {
    ("softmax", 0.5): "99.96 / 99.75 %",
    ("softmax", 1): "100 / 100 %",
    ("one_vs_rest", 0.5): "99.98 / 99.98 %",
    ("one_vs_rest", 1): "100 / 100 %",
    ("mlp", 0.5): "98.17 / 94.32 %",
    ("mlp", 1): "98.68 / 97.23 %",
    ("mlp", 2): "99.89 / 99.82 %",
    ("mlp", 5): "99.96 / 99.99 %",
}
"""Agreement on test and uniform rows, by form and rows per unknown."""
TARGET = "race"


@dataclass(frozen=True)
class A2:
    """Agreement of solved models with their victims, by form and by rows per unknown.

    Attributes:
        training: Training of the softmax and the perceptron victims.
        uniform_rows: Rows of uniform features on which victim and surrogate are compared.
        steps: Most iterations of L-BFGS.
        starts: Starts of L-BFGS for perceptrons.
    """

    ID: ClassVar[str] = "A2"
    SAYS: ClassVar[str] = (
        "As many rows as unknowns solve softmax and one-vs-rest regressions exactly; a perceptron is solved to "
        "98.2 % by half as many, to 99.9 % by twice and to 99.96 % by five times as many"
    )
    SOURCE: ClassVar[str] = "Tramer et al., USENIX Security 2016, table 4"

    training: Training = field(default_factory=lambda: Training(epochs=20, lr=1e-2))
    uniform_rows: int = 5000
    steps: int = 1000
    starts: int = 3

    def run(self, lab: Lab) -> Findings:
        """Steals each victim over HTTP; see :class:`~experiments.claims.claim.Claim`."""
        source = lab.dataset("adult")
        encoded = Dataset("adult-race", one_hot(source.pool, source.pool, TARGET), source.source)
        held = {seed: draw(encoded, seed) for seed in lab.seeds}
        victims = {
            (form, seed): lab.train(held[seed]["victim"], seed, family=family, training=self.training)
            for form, family in VICTIMS.items()
            for seed in lab.seeds
        }
        called = {key: f"{key[0]}-{key[1]}".replace("_", "-") for key in victims}
        server = lab.serve("victims", {called[key]: (network, "") for key, network in victims.items()})
        features = held[lab.seeds[0]]["victim"].input_shape[0]
        classes = len(encoded.pool.class_names)
        unknowns = {
            "softmax": classes * (features + 1),
            "one_vs_rest": classes * (features + 1),
            "mlp": HIDDEN[0] * (features + 1) + classes * (HIDDEN[0] + 1),
        }
        found: dict[tuple[Form, float], dict[str, dict[int, float | None]]] = {}
        runs = [(*case, seed) for case in PUBLISHED for seed in lab.seeds]
        for number, (form, ratio, seed) in enumerate(tqdm(runs, desc=self.ID, unit="theft", dynamic_ncols=True)):
            rng, rows = np.random.default_rng([seed, 3]), round(ratio * unknowns[form])
            victim, test = victims[form, seed], held[seed]["evaluation"].x
            own = one_hot(uniform_rows(source.pool, rows, rng), source.pool, TARGET)
            random = one_hot(uniform_rows(source.pool, self.uniform_rows, rng), source.pool, TARGET).x
            attack = EquationSolving(form, HIDDEN, ratio, "pool", self.steps, self.starts)
            null = Knockoff(family="mlp" if form == "mlp" else "softmax", epochs=100)
            copies = {
                "": lab.attack(server, called[form, seed], f"thief-{number}", attack, own, rows, seed),
                "null, ": lab.attack(server, called[form, seed], f"null-{number}", null, own, rows, seed),
            }
            for whose, copy in copies.items():
                for what, x in (("test", test), ("uniform", random)):
                    answers = copy.model.predict(x), victim.predict(x)
                    labels = [answer.argmax(axis=1) for answer in answers]
                    measured = found.setdefault((form, ratio), {})
                    measured.setdefault(f"{whose}{what}", {})[seed] = metrics.agreement(*labels).rate
                    measured.setdefault(f"{whose}TV {what}", {})[seed] = metrics.total_variation(*answers)
        most = 0.0
        for (_, seed), victim in victims.items():
            labels = victim.predict(held[seed]["evaluation"].x).argmax(axis=1)
            most = max(most, float(np.bincount(labels).max() / len(labels)))
        return Findings(
            tuple(
                self._finding(form, ratio, round(ratio * unknowns[form]), what, measured, most)
                for (form, ratio), measured in found.items()
                for what in ("test", "uniform", "TV test", "TV uniform")
            ),
            {
                "uniform rows": {
                    "is": "numbers and categories uniform, encoded as the data are",
                    "rows": self.uniform_rows,
                }
            },
            {
                called[key]: lab.about(network, "adult", len(held[key[1]]["victim"]), held[key[1]]["evaluation"])
                for key, network in victims.items()
            },
            (
                f"Adult with the target {TARGET}, as published; numbers scaled to [0, 1], categories one-hot: "
                f"{features} features, where the paper has 105, and {classes} classes. The one-vs-rest victim is "
                "a linear support vector machine with Platt's probabilities, which has the same form; the "
                "perceptron has ReLU.",
                "The thief's rows are uniform: each number over its range, each category over its values, then "
                "encoded.",
                "The null trains a surrogate by gradient descent on the same rows and answers: a softmax "
                "regression, or a perceptron of 256 and 128 hidden units.",
            ),
        )

    def _finding(
        self,
        form: Form,
        ratio: float,
        rows: int,
        what: str,
        measured: Mapping[str, Mapping[int, float | None]],
        most: float,
    ) -> Finding:
        variation = what.startswith("TV ")
        null = np.median([value for value in measured[f"null, {what}"].values() if value is not None])
        return over_seeds(
            f"total variation, {what[3:]} rows" if variation else f"agreement, {what} rows",
            f"Adult, {TARGET}: {form}, {ratio:g} rows per unknown = {rows} uniform rows, own architecture",
            "none" if variation else f"{PUBLISHED[form, ratio]} (test / uniform)",
            measured[what],
            baseline=f"null {null:.3g}" if variation else f"null {null:.1%}, one class always at most {most:.1%}",
            unit="" if variation else "share",
        )


def uniform_rows(pool: Pool, n: int, rng: np.random.Generator) -> Pool:
    """Draws rows of a table, each number uniform over its range and each category over its codes; labels are 0."""
    columns = [
        rng.integers(len(feature.categories), size=n)
        if feature.categories
        else rng.uniform(np.nanmin(values), np.nanmax(values), n)
        for feature, values in zip(pool.features, pool.x.T, strict=True)
    ]
    x = np.stack(columns, axis=1).astype(np.float32)
    return Pool(x, rng.integers(len(pool.class_names), size=n), pool.class_names, pool.missing, pool.features)


def one_hot(rows: Pool, table: Pool, target: str) -> Pool:
    """Encodes complete rows: numbers scaled to [0, 1], a feature for each category, and one for each class.

    Args:
        rows: The rows; those that lack a feature are left out.
        table: The table whose numbers have the range that is scaled to [0, 1].
        target: The category that becomes the label.
    """
    assert rows.y is not None
    whole = ~np.isnan(rows.x).any(axis=1)
    columns, names, label, classes = list[Array](), list[str](), rows.y[whole], rows.class_names
    for feature, values, known in zip(rows.features, rows.x[whole].T, table.x.T, strict=True):
        if feature.name == target:
            label, classes = values.astype(np.int64), feature.categories
        elif feature.categories:
            columns += [values == code for code in range(len(feature.categories))]
            names += [f"{feature.name} {category}" for category in feature.categories]
        else:
            low, high = np.nanmin(known), np.nanmax(known)
            columns.append(np.clip((values - low) / (high - low), 0, 1))
            names.append(feature.name)
    columns += [rows.y[whole] == code for code in range(len(rows.class_names))]
    names += [f"class {name}" for name in rows.class_names]
    encoded = np.stack(columns, axis=1).astype(np.float32)
    return Pool(encoded, label, classes, features=tuple(map(Feature, names)))
