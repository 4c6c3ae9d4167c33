"""A4, in part: linear models of two classes are stolen by labels alone.

Source: Tramèr, Zhang, Juels, Reiter, Ristenpart, "Stealing Machine Learning Models via Prediction APIs", USENIX
Security 2016, section 6.1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from tqdm import tqdm

from attacker.extraction.extraction import Extraction
from attacker.extraction.line_search import LineSearch
from attacker.extraction.lowd_meek import LowdMeek
from attacker.extraction.retraining import Retraining
from experiments import metrics
from experiments.claims.claim import Finding, Findings, over_seeds
from experiments.lab import Lab
from wire import Array
from wire.fits import uniform
from zoo.data import Pool
from zoo.families import Family
from zoo.families.logistic import Logistic
from zoo.families.svm import Svm
from zoo.network import Network
from zoo.recipe import LONG
from zoo.training import Training

VICTIMS: Mapping[str, Family] = {"logistic": Logistic(), "linear SVM": Svm("linear")}
PUBLISHED = {
    "Lowd-Meek": "> 99 % by 2,050 rows on average, 5,650 at most",
    "adaptive retraining": "> 99 % by 827 rows",
}
SPARE = ("unseen", "shadow", "control", "reference", "evaluation")  # roles that train neither victim nor thief


@dataclass(frozen=True)
class A4:
    """Agreement of linear surrogates with their victims, by labels alone and by rows.

    Attributes:
        data: The data set, of two classes.
        training: Training of the logistic victims.
        tolerances: Shares of a line to which Lowd and Meek's attack locates the boundary.
        rows: Rows of the other methods.
        epochs: Passes of their surrogates over the rows.
        uniform_rows: Uniformly random rows on which the two are compared.
    """

    ID: ClassVar[str] = "A4"
    SAYS: ClassVar[str] = (
        "Labels alone are enough, only more queries are needed: linear models of two classes agree on more than "
        "99 % after some 2,050 rows"
    )
    SOURCE: ClassVar[str] = "Tramer et al., USENIX Security 2016, section 6.1"

    data: str = "breast_cancer"
    training: Training = field(default_factory=lambda: LONG)
    tolerances: tuple[float, ...] = (1e-2, 1e-3, 1e-4, 1e-6)
    rows: tuple[int, ...] = (300, 827, 2050)
    epochs: int = 100
    uniform_rows: int = 5000

    def run(self, lab: Lab) -> Findings:
        """Steals each victim over HTTP; see :class:`~experiments.claims.claim.Claim`."""
        held = {seed: lab.roles(self.data, seed) for seed in lab.seeds}
        victims = {
            (name, seed): lab.train(pools["victim"], seed, family=family, training=self.training)
            for name, family in VICTIMS.items()
            for seed, pools in held.items()
        }
        called = {key: f"victim-{number}" for number, key in enumerate(victims)}
        label_only = '{ type = "label_only" }'
        server = lab.serve("victims", {called[key]: (network, label_only) for key, network in victims.items()})
        runs = [(*attack, name, seed) for attack in self._attacks() for name, seed in victims]
        found: dict[tuple[str, str, str], dict[str, dict[int, float | None]]] = {}
        for number, (method, size, attack, budget, name, seed) in enumerate(
            tqdm(runs, desc=self.ID, unit="theft")
        ):
            victim, test = victims[name, seed], _spare(held[seed])
            random = uniform(victim.card(), self.uniform_rows, np.random.default_rng([seed, 3]))
            stolen = lab.attack(
                server, called[name, seed], f"thief-{number}", attack, held[seed]["pool"], budget, seed
            )
            measured = {"test": _agreement(stolen.model, victim, test), "rows": len(stolen.x)}
            measured["uniform"] = _agreement(stolen.model, victim, random)
            for what, value in measured.items():
                found.setdefault((name, method, size), {}).setdefault(what, {})[seed] = value
        nulls = {key: self._null(victims[key], held[key[1]], key[1]) for key in victims}
        return Findings(
            tuple(self._found(found, nulls)),
            {"uniform rows": {"is": "features uniform over the card's range", "rows": self.uniform_rows}},
            {
                called[key]: lab.about(network, self.data, len(held[key[1]]["victim"]), held[key[1]]["evaluation"])
                for key, network in victims.items()
            },
            (
                "Victims answer with labels alone. The published averages are over other data sets.",
                "The baseline is a logistic regression of the true labels of the thief's pool, without the API.",
            ),
        )

    def _attacks(self) -> Iterator[tuple[str, str, Extraction, int]]:
        """Yields each method with its size, and its budget in rows."""
        for tolerance in self.tolerances:
            yield "Lowd-Meek", f"boundary to {tolerance:g}", LowdMeek(tolerance=tolerance), 10_000
        trained = {"family": "logistic", "epochs": self.epochs, "lr": 0.05}
        for n in self.rows:
            points, size = n // 2, f"{n} rows"
            yield "uniform retraining", size, Retraining(n, 1, **trained), n  # type: ignore[arg-type]
            yield "adaptive retraining", size, Retraining(n, 5, **trained), n  # type: ignore[arg-type]
            yield "line search", size, LineSearch(points, lines=n, **trained), n  # type: ignore[arg-type]

    def _null(self, victim: Network, pools: Mapping[str, Pool], seed: int) -> tuple[float, float]:
        """Returns the agreement of a model of the pool's true labels, and of one class always, on test rows."""
        pool, test = pools["pool"], _spare(pools)
        assert pool.y is not None
        own = Network.untrained(Logistic(), victim.card(), seed=seed)
        own.fit(pool.x, pool.y, Training(self.epochs, lr=0.05), seed=seed, label="baseline")
        labels = victim.predict(test).argmax(axis=1)
        return _agreement(own, victim, test), float(np.bincount(labels).max() / len(labels))

    def _found(
        self,
        found: Mapping[tuple[str, str, str], Mapping[str, Mapping[int, float | None]]],
        nulls: Mapping[tuple[str, int], tuple[float, float]],
    ) -> Iterator[Finding]:
        for (name, method, size), measured in found.items():
            known, constant = (max(null[i] for key, null in nulls.items() if key[0] == name) for i in (0, 1))
            where = f"{self.data}, {name}, labels only: {method}, {size}"
            yield over_seeds("rows", where, PUBLISHED.get(method, "none"), measured["rows"], baseline="none")
            for what in ("test", "uniform"):
                yield over_seeds(
                    f"agreement, {what} rows",
                    where,
                    PUBLISHED.get(method, "none"),
                    measured[what],
                    baseline=f"true labels, no API: at most {known:.1%}; one class: at most {constant:.1%}"
                    if what == "test"
                    else "none",
                    unit="share",
                )


def _spare(pools: Mapping[str, Pool]) -> Array:
    """Returns the rows that train nobody."""
    return np.concatenate([pools[role].x for role in SPARE])


def _agreement(copy: Network, victim: Network, x: Array) -> float:
    return metrics.agreement(copy.predict(x).argmax(axis=1), victim.predict(x).argmax(axis=1)).rate
