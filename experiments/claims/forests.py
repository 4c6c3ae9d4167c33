"""TRA: forests and boosted trees are found region by region, or tree by tree.

Source: Khouna, Ferry, Vidal, "From Counterfactuals to Trees: Competitive Analysis of Model Extraction Attacks",
NeurIPS 2025 (arXiv:2502.05325).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from tqdm import tqdm

from attacker.extraction.extraction import Extraction
from attacker.extraction.path_finding import PathFinding
from attacker.extraction.tra import Tra
from experiments import metrics
from experiments.claims.claim import Finding, Findings, over_seeds
from experiments.claims.paths import SPARE
from experiments.lab import Asked, Lab
from wire.fits import uniform
from zoo.data import Pool
from zoo.families import Family
from zoo.families.gbdt import Gbdt
from zoo.families.trees import Forest
from zoo.model import Model
from zoo.network import Network
from zoo.recipe import Recipe

VICTIMS: Mapping[str, Family] = {
    "forest of 5 trees, depth 4": Forest(5, 4),
    "10 rounds of 8 leaves": Gbdt(10, 8),
}
LABELS, LEAVES = "TRA, labels", "path-finding, leaf ids"
ATTACKS: Mapping[str, Extraction] = {LABELS: Tra(), LEAVES: PathFinding()}


@dataclass(frozen=True)
class Forests:
    """Agreement of a stolen ensemble with its victim, and what it cost.

    Attributes:
        data: The data sets.
        budget: Most rows of a theft.
        uniform_rows: Uniformly random rows on which the two are compared.
    """

    ID: ClassVar[str] = "TRA"
    SAYS: ClassVar[str] = "Tree ensembles are reconstructed with perfect fidelity by counterfactual queries"
    SOURCE: ClassVar[str] = "Khouna et al., NeurIPS 2025, abstract"

    data: tuple[str, ...] = ("iris", "wine")
    budget: int = 100_000
    uniform_rows: int = 5000

    def run(self, lab: Lab) -> Findings:
        """Steals each ensemble over HTTP; see :class:`~experiments.claims.claim.Claim`."""
        held = {(data, seed): lab.roles(data, seed) for data in self.data for seed in lab.seeds}
        victims = {
            (data, name, seed): lab.train(pools["victim"], seed, family=family)
            for (data, seed), pools in held.items()
            for name, family in VICTIMS.items()
        }
        called = {key: f"forest-{number}" for number, key in enumerate(victims)}
        served = {called[key]: (network, "") for key, network in victims.items()}
        server = lab.serve("victims", served, leaves=[*served])
        found: dict[tuple[str, str, str], dict[str, dict[int, float | None]]] = {}
        runs = [(key, attack) for key in victims for attack in ATTACKS]
        for key, attack in tqdm(runs, desc=self.ID, unit="theft", dynamic_ncols=True):
            data, name, seed = key
            pools, account = held[data, seed], f"{called[key]}-{[*ATTACKS].index(attack)}"
            stolen = lab.attack(server, called[key], account, ATTACKS[attack], pools["pool"], self.budget, seed)
            for what, value in self._measured(stolen, victims[key], pools, seed).items():
                found.setdefault((data, name, attack), {}).setdefault(what, {})[seed] = value
        return Findings(
            tuple(
                finding
                for (data, name, attack), measured in found.items()
                for finding in _found(f"{data}, {name}; {attack}", measured)
            ),
            {"uniform rows": {"is": "features uniform over the card's ranges", "rows": self.uniform_rows}},
            {
                f"{data}, {name}, seed {seed}": lab.about(
                    victim, data, len(held[data, seed]["victim"]), held[data, seed]["evaluation"]
                )
                for (data, name, seed), victim in victims.items()
            },
            (
                "The paper's attacker asks a service for counterfactuals that are proven to be optimal in a "
                "region; its fidelity is 100 % by construction, and its queries are not rows. Here predictions "
                "stand in for that service, so that no published figure is of this setting.",
                "The null is a forest of 100 trees grown on the victim's labels of as many uniform rows. The "
                "second baseline is one grown on the true labels of the thief's pool, which asks nothing.",
            ),
        )

    def _measured(self, stolen: Asked, victim: Network, pools: Mapping[str, Pool], seed: int) -> dict[str, float]:
        rng = np.random.default_rng([seed, 3])
        random = uniform(victim.card(), self.uniform_rows, rng)
        asked = uniform(victim.card(), len(stolen.x), rng)
        test = np.concatenate([pools[role].x for role in SPARE])
        labelled = Pool(asked, victim.predict(asked).argmax(1).astype(np.int64), victim.class_names)
        copies: dict[str, Model] = {
            "": stolen.model,
            "null, ": Recipe(Forest(), seed=seed).train(labelled),
            "baseline, ": Recipe(Forest(), seed=seed).train(pools["pool"]),
        }
        return {
            f"{whose}{what}": metrics.agreement(copy.predict(x).argmax(1), victim.predict(x).argmax(1)).rate
            for whose, copy in copies.items()
            for what, x in (("test", test), ("uniform", random))
        } | {"rows": len(stolen.x), "requests": stolen.requests, "money": stolen.money / 10**8}


def _found(where: str, measured: Mapping[str, Mapping[int, float | None]]) -> list[Finding]:
    costs = [
        over_seeds(what, where, "none", measured[what], baseline="none", unit=what)
        for what in ("rows", "requests", "money")
    ]
    return costs + [
        over_seeds(
            f"agreement, {what} rows",
            where,
            "100 %, by counterfactuals that are proven optimal",
            measured[what],
            baseline=", ".join(
                f"{whose} {np.median([value or 0 for value in measured[f'{whose}, {what}'].values()]):.1%}"
                for whose in ("null", "baseline")
            ),
            unit="share",
        )
        for what in ("test", "uniform")
    ]
