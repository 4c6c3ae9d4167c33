"""A8: whether the adaptive Knockoff needs fewer queries than the random one.

Source: Orekondy, Schiele, Fritz, "Knockoff Nets: Stealing Functionality of Black-Box Models", CVPR 2019, sections
4 and 6.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
from tqdm import tqdm

from attacker.extraction.knockoff import Knockoff
from experiments import metrics
from experiments.claims import streams
from experiments.claims.active_learning import knowing
from experiments.claims.claim import Finding, Findings, over_seeds
from experiments.lab import Lab
from zoo.data import Pool
from zoo.network import Network
from zoo.training import Training

OWN, MIXED = "the victim's own distribution", "a fifth of the victim's own distribution, the rest unrelated"
RANDOM, ADAPTIVE, TRUE = "random", "adaptive", "random rows with the pool's labels, without the API"


@dataclass(frozen=True)
class A8:
    """Agreement of Knockoff's surrogate with the victim, by strategy, pool and rows.

    Attributes:
        data: The victim's data set.
        other: The data set of the unrelated images.
        family: Family of victims and surrogates.
        training: Training of the victims.
        queries: Rows of a theft.
    """

    ID: ClassVar[str] = "A8"
    SAYS: ClassVar[str] = "The adaptive strategy needs fewer queries than the random one"
    SOURCE: ClassVar[str] = "Orekondy et al., CVPR 2019, sections 4.1.2 and 6"

    data: str = "mnist"
    other: str = "fashion_mnist"
    family: str = "mlp"
    training: Training = field(default_factory=Training)
    queries: tuple[int, ...] = (250, 500, 1000)

    def run(self, lab: Lab) -> Findings:
        """Steals each victim by both strategies over HTTP; see :class:`~experiments.claims.claim.Claim`."""
        held, victims = lab.victims(self.data, self.family, self.training)
        other = lab.dataset(self.other).pool
        server = lab.serve("victims", {f"victim-{seed}": (network, "") for seed, network in victims.items()})
        pools = {(OWN, seed): held[seed]["pool"] for seed in lab.seeds}
        pools |= {(MIXED, seed): mixed(held[seed]["pool"], other, seed) for seed in lab.seeds}
        strategies: tuple[Literal["random", "adaptive"], ...] = ("random", "adaptive")
        runs = [(kind, n, way, seed) for kind, seed in pools for n in self.queries for way in strategies]
        found: dict[tuple[str, int, str], dict[int, float | None]] = {}
        for number, (kind, n, strategy, seed) in enumerate(tqdm(runs, desc=self.ID, unit="theft")):
            attack, pool = Knockoff(self.family, strategy=strategy), pools[kind, seed]
            stolen = lab.attack(
                server, f"victim-{seed}", f"thief-{number}", attack, pool, n, seed, labelled=strategy == ADAPTIVE
            )
            copies: dict[str, Network] = {strategy: stolen.model}
            if strategy == RANDOM and kind == OWN:
                asked = knowing(pool, victims[seed], n)
                copies[TRUE] = attack.extract(asked, pool, np.random.default_rng([seed, 1])).network()
            for name, copy in copies.items():
                found.setdefault((kind, n, name), {})[seed] = self._agreement(copy, victims[seed], held[seed])
        return Findings(
            tuple(self._found(found)),
            {kind: {"is": kind, "rows": len(pools[kind, lab.seeds[0]])} for kind in (OWN, MIXED)},
            lab.about_all(victims, self.data, held),
            (
                "The paper's pool is ImageNet or OpenImages, its budget 60,000 queries, its surrogate a "
                "pretrained ResNet-34. The adaptive thief knows the classes of the pool's images.",
            ),
        )

    def _agreement(self, copy: Network, victim: Network, pools: Mapping[str, Pool]) -> float:
        labels = [network.predict(pools["evaluation"].x).argmax(axis=1) for network in (copy, victim)]
        return metrics.agreement(labels[0], labels[1]).rate

    def _found(self, found: Mapping[tuple[str, int, str], Mapping[int, float | None]]) -> Iterator[Finding]:
        for (kind, n, name), values in sorted(found.items(), key=lambda item: item[0][:2]):
            random = [f"{value:.1%}" for value in found[kind, n, RANDOM].values() if value is not None]
            yield over_seeds(
                f"agreement: {name}",
                f"{self.data}, victim and surrogate {self.family}; {n} rows; pool: {kind}",
                "adaptive 76.2 % accuracy, random 75.4 % (Caltech256, 60,000)" if name != TRUE else "none",
                values,
                baseline=f"random: {', '.join(random)}",
                unit="share",
            )


def mixed(own: Pool, other: Pool, seed: int) -> Pool:
    """Returns rows of two labelled pools, in the first one's shape, four of the other for each of its own."""
    assert own.y is not None and other.y is not None
    chosen = np.random.default_rng([seed, 4]).permutation(len(other))[: 4 * len(own)]
    x = np.concatenate([own.x, streams.grey(other.x[chosen], own.input_shape)])
    y = np.concatenate([own.y, len(own.class_names) + other.y[chosen]])
    names = tuple(f"{kind} {name}" for kind, pool in (("own", own), ("other", other)) for name in pool.class_names)
    return Pool(x, y, names)
