"""DFME: a victim is stolen without any data, by rows that a generator makes.

Source: Truong, Maini, Walls, Papernot, "Data-Free Model Extraction", CVPR 2021.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
from tqdm import tqdm

from attacker.extraction.data_free import DataFree
from attacker.extraction.knockoff import Knockoff
from experiments import metrics
from experiments.claims.active_learning import knowing
from experiments.claims.claim import Finding, Findings, over_seeds
from experiments.lab import Lab
from zoo.data import Pool
from zoo.network import Network
from zoo.training import Training

Queries = Literal["generator", "random"]
NAMES: Mapping[Queries, str] = {"generator": "DFME", "random": "as many random rows"}
TRUE = "natural rows with their true labels, without the API"
PRICE = 0.0001  # of a row, as in docs/digits.toml


@dataclass(frozen=True)
class Dfme:
    """Agreement of data-free surrogates with the victim, by rows.

    Attributes:
        data: The data set.
        family: Family of victims and surrogates.
        training: Training of the victims.
        rows: Rows of a theft.
        batch: Rows of a step.
        width: Channels of the generator's first convolution.
    """

    ID: ClassVar[str] = "DFME"
    SAYS: ClassVar[str] = (
        "Without any data, 2 million rows steal 0.99 of an SVHN victim's accuracy, and 20 million rows 0.92 of a "
        "CIFAR-10 victim's"
    )
    SOURCE: ClassVar[str] = "Truong et al., CVPR 2021"

    data: str = "digits"
    family: str = "cnn"
    training: Training = field(default_factory=lambda: Training(epochs=20))
    rows: tuple[int, ...] = (50_000, 200_000)
    batch: int = 64
    width: int = 32

    def run(self, lab: Lab) -> Findings:
        """Steals each victim over HTTP; see :class:`~experiments.claims.claim.Claim`."""
        held, victims = lab.victims(self.data, self.family, self.training)
        server = lab.serve("victims", {f"victim-{seed}": (network, "") for seed, network in victims.items()})
        runs = [(n, queries, seed) for n in self.rows for queries in NAMES for seed in lab.seeds]
        found: dict[tuple[int, str], dict[int, float | None]] = {}
        spent: dict[tuple[int, str], int] = {}
        for n, queries, seed in tqdm(runs, desc=self.ID, unit="theft", dynamic_ncols=True):
            attack = DataFree(n, queries, self.family, self.batch, width=self.width)
            none = held[seed]["pool"].take(slice(0))
            stolen = lab.attack(server, f"victim-{seed}", f"{queries}-{n}-{seed}", attack, none, n, seed)
            key = n, NAMES[queries]
            found.setdefault(key, {})[seed] = agreement(stolen.model, victims[seed], held[seed])
            spent[key] = len(stolen.x)
        for seed, victim in victims.items():
            pool = held[seed]["pool"]
            honest = Knockoff(self.family, epochs=30).extract(
                knowing(pool, victim), pool, np.random.default_rng([seed, 1])
            )
            found.setdefault((len(pool), TRUE), {})[seed] = agreement(honest.network(), victim, held[seed])
        most = max(
            float(np.bincount(victim.predict(held[seed]["evaluation"].x).argmax(axis=1)).max())
            / len(held[seed]["evaluation"])
            for seed, victim in victims.items()
        )
        return Findings(
            tuple(self._found(found, spent, most)),
            {},
            lab.about_all(victims, self.data, held),
            (
                "The paper steals ResNet-34 victims of SVHN and CIFAR-10 by ResNet-18 surrogates. Here images are "
                f"smaller, steps have {self.batch} rows instead of 256, since fewer rows would be too few steps, "
                f"and the generator has {self.width} channels instead of 128. The number of rows of a step was "
                "chosen on another draw of the same data.",
                "A random row draws each feature uniformly from its range, and takes no rows for gradients.",
            ),
        )

    def _found(
        self,
        found: Mapping[tuple[int, str], Mapping[int, float | None]],
        spent: Mapping[tuple[int, str], int],
        most: float,
    ) -> Iterator[Finding]:
        for (n, name), values in found.items():
            asked = spent.get((n, name), 0)
            random = [f"{v:.1%}" for v in found.get((n, NAMES["random"]), {}).values() if v is not None]
            yield over_seeds(
                f"agreement: {name}",
                f"{self.data}, victim and surrogate {self.family}; {asked:,} rows asked"
                + (f", {asked * PRICE:.2f} at {PRICE} a row" if asked else f", {n:,} rows owned"),
                "0.92 to 0.99 of the victim's accuracy, other data" if name == NAMES["generator"] else "none",
                values,
                baseline=f"random rows: {', '.join(random) or 'none'}; one class always at most {most:.1%}",
                unit="share",
            )


def agreement(copy: Network, victim: Network, pools: Mapping[str, Pool]) -> float:
    """Returns the share of the evaluation rows on which a copy agrees with the victim."""
    labels = [network.predict(pools["evaluation"].x).argmax(axis=1) for network in (copy, victim)]
    return metrics.agreement(labels[0], labels[1]).rate
