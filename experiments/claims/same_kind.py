"""A4, in part: models that are no networks are stolen by surrogates of their own kind, by labels alone.

Source: He et al. 2019 as surveyed by Irolla (substitute models of the victim's kind for kNN, SVM and others);
Tramèr, Zhang, Juels, Reiter, Ristenpart, "Stealing Machine Learning Models via Prediction APIs", USENIX Security
2016, section 6 (SVMs with an RBF kernel).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from tqdm import tqdm

from attacker.extraction.knockoff import Knockoff
from experiments import metrics
from experiments.claims.claim import Finding, Findings, over_seeds
from experiments.claims.paths import SPARE
from experiments.lab import Lab
from zoo.data import Pool
from zoo.families import FAMILIES
from zoo.network import Network
from zoo.recipe import Recipe

KINDS = ("knn", "svm", "forest")
OTHER = "mlp"
"""Family of the surrogate of another kind."""
RBF = "> 99 % by 2,050 rows, of other data and by adaptive retraining (Tramer)"


@dataclass(frozen=True)
class SameKind:
    """Agreement of surrogates of the victim's kind, and of another, with victims that answer with labels.

    Attributes:
        data: The data set.
        rows: Rows of a theft, of the victim's own distribution.
        epochs: Passes of the surrogate of another kind over them.
    """

    ID: ClassVar[str] = "A4-kinds"
    SAYS: ClassVar[str] = "kNN, RBF-SVM and forests are stolen by a substitute model; labels alone are enough"
    SOURCE: ClassVar[str] = "He et al. 2019, as surveyed by Irolla"

    data: str = "digits"
    rows: tuple[int, ...] = (100, 250)
    epochs: int = 100

    def run(self, lab: Lab) -> Findings:
        """Steals each victim over HTTP; see :class:`~experiments.claims.claim.Claim`."""
        held = {seed: lab.roles(self.data, seed) for seed in lab.seeds}
        victims = {
            (kind, seed): lab.train(pools["victim"], seed, family=kind)
            for kind in KINDS
            for seed, pools in held.items()
        }
        called = {key: f"victim-{number}" for number, key in enumerate(victims)}
        label_only = '{ type = "label_only" }'
        server = lab.serve("victims", {called[key]: (network, label_only) for key, network in victims.items()})
        found: dict[tuple[str, str, int], dict[int, float | None]] = {}
        nulls: dict[tuple[str, int], dict[int, float | None]] = {}
        money: dict[tuple[str, str, int], float] = {}
        runs = [(key, own, n) for key in victims for own in (True, False) for n in self.rows]
        for number, ((kind, seed), own, n) in enumerate(tqdm(runs, desc=self.ID, unit="theft")):
            family = kind if own else OTHER
            attack, pools = Knockoff(family, epochs=self.epochs), held[seed]
            stolen = lab.attack(server, called[kind, seed], f"thief-{number}", attack, pools["pool"], n, seed)
            place = kind, family, n
            found.setdefault(place, {})[seed] = _agreement(stolen.model, victims[kind, seed], pools)
            money[place] = stolen.money / 10**8
            if own:
                truth = Recipe(FAMILIES[kind](), seed=seed).train(pools["pool"].take(slice(n))).network()
                nulls.setdefault((kind, n), {})[seed] = _agreement(truth, victims[kind, seed], pools)
        return Findings(
            tuple(
                self._finding(place, values, nulls[place[0], place[2]], money[place])
                for place, values in found.items()
            ),
            {},
            {
                called[key]: lab.about(network, self.data, len(held[key[1]]["victim"]), held[key[1]]["evaluation"])
                for key, network in victims.items()
            },
            (
                "Victims answer with labels alone; the thief's rows have the victim's own distribution. "
                "Surrogates of the same kind have the victim's hyper-parameters, and learn from labels.",
                "The baseline is a model of the same kind of the true labels of as many rows, without the API.",
            ),
        )

    def _finding(
        self,
        place: tuple[str, str, int],
        values: Mapping[int, float | None],
        nulls: Mapping[int, float | None],
        money: float,
    ) -> Finding:
        kind, family, n = place
        return over_seeds(
            "agreement, test rows",
            f"{self.data}, {kind} victim, labels only, {family} surrogate, {n} rows for {money:.4f}",
            RBF if kind == family == "svm" else "none",
            values,
            baseline=f"true labels, no API: {np.median([value or 0 for value in nulls.values()]):.1%}",
            unit="share",
        )


def _agreement(copy: Network, victim: Network, pools: Mapping[str, Pool]) -> float:
    x = np.concatenate([pools[role].x for role in SPARE])
    return metrics.agreement(copy.predict(x).argmax(axis=1), victim.predict(x).argmax(axis=1)).rate
