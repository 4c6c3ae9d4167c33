"""DFMS-HL: a victim that tells labels alone is stolen without its data, by a GAN of proxy images.

Source: Sanyal, Addepalli, Babu, "Towards Data-Free Model Stealing in a Hard Label Setting", CVPR 2022.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from tqdm import tqdm

from attacker.extraction.dfms_hl import DfmsHl
from attacker.extraction.knockoff import Knockoff
from experiments.claims import streams
from experiments.claims.active_learning import knowing
from experiments.claims.claim import Finding, Findings, over_seeds
from experiments.claims.without_data import PRICE, TRUE, agreement
from experiments.lab import Lab
from zoo.data import Pool
from zoo.training import Training

SHAPES, FOREIGN, RANDOM = "random shapes", "foreign images", "random rows"
METHODS: Mapping[str, Mapping[str, Any]] = {
    "DFMS-HL of random shapes": {},
    SHAPES: {"queries": "proxies"},
    RANDOM: {"queries": "random"},
    "DFMS-HL of foreign images": {"proxies": "pool"},
    FOREIGN: {"proxies": "pool", "queries": "proxies"},
}
NULLS = {"DFMS-HL of random shapes": SHAPES, "DFMS-HL of foreign images": FOREIGN}


@dataclass(frozen=True)
class HardLabels:
    """Agreement of data-free clones with victims that tell labels alone, beside the proxies and random rows.

    Attributes:
        data: The data set.
        foreign: The data set of foreign proxies; "" for none.
        family: Family of victims and surrogates.
        training: Training of the victims.
        rows: Rows of a theft.
        width: Channels of the first convolutions of generator and discriminator.
        gan_epochs: Passes of the GAN over the proxies.
    """

    ID: ClassVar[str] = "DFMS-HL"
    SAYS: ClassVar[str] = (
        "Labels alone, about images of a GAN that proxies train and that the clone keeps diverse, steal a model "
        "without its data"
    )
    SOURCE: ClassVar[str] = "Sanyal et al., CVPR 2022"

    data: str = "mnist"
    foreign: str = "fashion_mnist"
    family: str = "cnn"
    training: Training = field(default_factory=lambda: Training(epochs=2))
    rows: tuple[int, ...] = (20_000,)
    width: int = 16
    gan_epochs: int = 10

    def run(self, lab: Lab) -> Findings:
        """Steals each victim over HTTP; see :class:`~experiments.claims.claim.Claim`."""
        held, victims = lab.victims(self.data, self.family, self.training)
        only = '{ type = "label_only" }'
        server = lab.serve("victims", {f"victim-{seed}": (network, only) for seed, network in victims.items()})
        methods = [name for name in METHODS if self.foreign or METHODS[name].get("proxies") != "pool"]
        runs = [(n, name, seed) for n in self.rows for name in methods for seed in lab.seeds]
        found: dict[tuple[int, str], dict[int, float | None]] = {}
        spent: dict[tuple[int, str], int] = {}
        for n, name, seed in tqdm(runs, desc=self.ID, unit="theft", dynamic_ncols=True):
            attack = DfmsHl(n, family=self.family, width=self.width, gan_epochs=self.gan_epochs, **METHODS[name])
            pool = held[seed]["pool"].take(slice(0))
            if attack.proxies == "pool":
                pool = self._foreign(lab, seed, pool)
            account = f"{list(METHODS).index(name)}-{n}-{seed}"
            stolen = lab.attack(server, f"victim-{seed}", account, attack, pool, n, seed)
            found.setdefault((n, name), {})[seed] = agreement(stolen.model, victims[seed], held[seed])
            spent[n, name] = len(stolen.x)
        for seed, victim in victims.items():
            pool = held[seed]["pool"]
            known = pool.take(slice(100))
            honest = Knockoff(self.family, epochs=30).extract(
                knowing(known, victim), known, np.random.default_rng([seed, 1])
            )
            found.setdefault((len(known), TRUE), {})[seed] = agreement(honest.network(), victim, held[seed])
        return Findings(
            tuple(self._found(found, spent)),
            {"foreign images": {"is": self.foreign, "of": "the pool role, each at most once"}},
            lab.about_all(victims, self.data, held),
            (
                "The paper steals CIFAR-10 and CIFAR-100 victims of ResNet and AlexNet, by GANs of 40 or 10 other "
                f"classes of CIFAR-100 or of random shapes, and by millions of rows. Here a GAN has {self.width} "
                f"channels in place of 64, and sees 5,000 shapes, or all foreign images, {self.gan_epochs} times.",
                "The controls train the same clone for as many steps on as many rows: proxies, or uniformly "
                "random rows. Foreign proxies end where the pool does.",
            ),
        )

    def _foreign(self, lab: Lab, seed: int, like: Pool) -> Pool:
        other = lab.roles(self.foreign, seed)["pool"]
        return dataclasses.replace(other, x=streams.grey(other.x, like.input_shape), y=None)

    def _found(
        self, found: Mapping[tuple[int, str], Mapping[int, float | None]], spent: Mapping[tuple[int, str], int]
    ) -> Iterator[Finding]:
        for (n, name), values in found.items():
            asked = spent.get((n, name), 0)
            nulls = {
                null: found.get((n, null), {}).values() for null in {NULLS.get(name, RANDOM), RANDOM} - {name}
            }
            beside = "; ".join(
                f"{null}: {', '.join(f'{value:.1%}' for value in of if value is not None)}"
                for null, of in sorted(nulls.items())
                if asked
            )
            yield over_seeds(
                f"agreement: {name}",
                f"{self.data}, victim and surrogate {self.family}, labels only; {asked:,} rows asked"
                + (f", {asked * PRICE:.2f} at {PRICE} a row" if asked else f", {n:,} rows owned"),
                "none in this setting",
                values,
                baseline=beside or "none",
                unit="share",
            )
