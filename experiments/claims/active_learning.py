"""ActiveThief: whether rows chosen by active learning steal more than rows drawn at random.

Source: Pal, Gupta, Shukla, Kanade, Shevade, Ganapathy, "ActiveThief: Model Extraction Using Active Learning and
Unannotated Public Data", AAAI 2020.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal, get_args

import numpy as np
from tqdm import tqdm

from attacker.extraction.active_thief import ActiveThief
from experiments import metrics
from experiments.claims.claim import Finding, Findings, over_seeds
from experiments.lab import Lab
from wire import Answer, Array, Oracle
from zoo.data import Pool
from zoo.network import Network
from zoo.training import Training

Strategy = Literal["random", "uncertainty", "k_center", "dfal", "dfal_k_center"]
TRUE = "random rows with their true labels, without the API"


@dataclass(frozen=True)
class ActiveLearning:
    """Agreement of ActiveThief's surrogate with the victim, by strategy and by rows.

    Attributes:
        data: The data set.
        family: Family of the victims.
        training: Training of the victims.
        surrogate: Family of the surrogates.
        queries: Rows of a theft, validation rows included.
        rounds: Rounds that choose rows.
        epochs: Most passes over the rows in each round.
        early_stopping: Passes without an improvement after which training ends.
    """

    ID: ClassVar[str] = "ActiveThief"
    SAYS: ClassVar[str] = (
        "Active learning chooses rows whose answers steal more than those of as many random rows; DFAL with "
        "k-center does best in most experiments"
    )
    SOURCE: ClassVar[str] = "Pal et al., AAAI 2020"

    data: str = "mnist"
    family: str = "mlp"
    training: Training = field(default_factory=Training)
    surrogate: str = "mlp"
    queries: tuple[int, ...] = (250, 600)
    rounds: int = 5
    epochs: int = 300
    early_stopping: int = 50

    def run(self, lab: Lab) -> Findings:
        """Steals each victim by every strategy over HTTP; see :class:`~experiments.claims.claim.Claim`."""
        held, victims = lab.victims(self.data, self.family, self.training)
        server = lab.serve("victims", {f"victim-{seed}": (network, "") for seed, network in victims.items()})
        strategies: tuple[Strategy, ...] = get_args(Strategy)
        runs = [(n, strategy, seed) for n in self.queries for strategy in strategies for seed in lab.seeds]
        found: dict[tuple[int, str], dict[int, float | None]] = {}
        for n, strategy, seed in tqdm(runs, desc=self.ID, unit="theft", dynamic_ncols=True):
            pools, victim = held[seed], victims[seed]
            attack = ActiveThief(
                n,
                self.rounds,
                strategy=strategy,
                family=self.surrogate,
                epochs=self.epochs,
                early_stopping=self.early_stopping,
            )
            account = f"{strategy}-{n}-{seed}".replace("_", "-")
            stolen = lab.attack(server, f"victim-{seed}", account, attack, pools["pool"], n, seed).model
            found.setdefault((n, strategy), {})[seed] = self._agreement(stolen, victim, pools)
            if strategy == "random":
                honest = attack.extract(
                    knowing(pools["pool"], victim), pools["pool"], np.random.default_rng([seed, 1])
                )
                found.setdefault((n, TRUE), {})[seed] = self._agreement(honest, victim, pools)
        most = max(self._most(victims[seed], held[seed]["evaluation"].x) for seed in lab.seeds)
        return Findings(
            tuple(self._finding(key, found, most) for key in sorted(found, key=lambda key: key[0])),
            {
                "pool": {
                    "is": "the pool role, of the victim's own distribution",
                    "rows": len(held[lab.seeds[0]]["pool"]),
                }
            },
            lab.about_all(victims, self.data, held),
            (
                "The paper steals with other data (down-sampled ImageNet, WikiText-2) and more rows. The pool "
                "here is of the victim's own distribution, which leaves the least to choose.",
                "A fifth of the rows validates surrogates. Each strategy begins with the same random rows.",
            ),
        )

    def _agreement(self, surrogate: Network, victim: Network, pools: Mapping[str, Pool]) -> float:
        labels = [network.predict(pools["evaluation"].x).argmax(axis=1) for network in (surrogate, victim)]
        return metrics.agreement(labels[0], labels[1]).rate

    def _most(self, victim: Network, x: Array) -> float:
        return float(np.bincount(victim.predict(x).argmax(axis=1)).max() / len(x))

    def _finding(
        self, key: tuple[int, str], found: Mapping[tuple[int, str], Mapping[int, float | None]], most: float
    ) -> Finding:
        n, strategy = key
        null = [f"{value:.1%}" for value in found[n, "random"].values() if value is not None]
        whose = "the victim's own architecture" if self.surrogate == self.family else "another architecture"
        return over_seeds(
            f"agreement: {strategy}",
            f"{self.data}, victim {self.family}; surrogate {self.surrogate}, {whose}; {n} rows of the victim's "
            f"own distribution, in {self.rounds} rounds",
            "none at this size",
            found[key],
            baseline=f"random: {', '.join(null)}; one class always: at most {most:.1%}",
            unit="share",
        )


def knowing(pool: Pool, victim: Network, budget: int | None = None) -> Oracle:
    """Returns an oracle that knows the labels of a pool's rows, and asks no victim."""
    assert pool.y is not None
    labels = {row.tobytes(): label for row, label in zip(pool.x, pool.y.tolist(), strict=True)}

    def answer(x: Array) -> Answer:
        return Answer(np.array([labels[row.tobytes()] for row in x], np.int64))

    return Oracle(answer, victim.card(), budget)
