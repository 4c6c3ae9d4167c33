"""A5: images unrelated to the victim's task steal it too, by their labels.

Source: Correia-Silva, Berriel, Badue, de Souza, Oliveira-Santos, "Copycat CNN: Stealing Knowledge by Persuading
Confession with Random Non-Labeled Data", IJCNN 2018.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from tqdm import tqdm

from attacker.extraction.copycat import Copycat
from experiments import metrics
from experiments.claims import streams
from experiments.claims.active_learning import knowing
from experiments.claims.claim import Finding, Findings, over_seeds
from experiments.lab import Lab
from wire import Array
from zoo.data import Pool
from zoo.network import Network
from zoo.training import Training

RELATED, UNRELATED = "related images", "unrelated images"
NULL = "unrelated images with their labels shuffled"
TRUE = "related images with their true labels, without the API"


@dataclass(frozen=True)
class A5:
    """Agreement of Copycat CNN's surrogate with the victim, by rows and by what the images show.

    Attributes:
        data: The victim's data set.
        other: The data set of the unrelated images.
        family: Family of victims and surrogates.
        training: Training of the victims.
        related: Numbers of images of the victim's own distribution.
        unrelated: Numbers of images of the other data set.
        epochs: Passes of surrogates over the balanced images.
    """

    ID: ClassVar[str] = "A5"
    SAYS: ClassVar[str] = (
        "Images unrelated to the task steal as well as related ones, with about 50 times as many; the copy "
        "reaches 93.7 % of the victim's accuracy and more"
    )
    SOURCE: ClassVar[str] = "Correia-Silva et al., IJCNN 2018"

    data: str = "mnist"
    other: str = "fashion_mnist"
    family: str = "cnn"
    training: Training = field(default_factory=lambda: Training(epochs=2))
    related: tuple[int, ...] = (100, 1000)
    unrelated: tuple[int, ...] = (1000, 5000)
    epochs: int = 5

    def run(self, lab: Lab) -> Findings:
        """Steals each victim over HTTP; see :class:`~experiments.claims.claim.Claim`."""
        held, victims = lab.victims(self.data, self.family, self.training)
        shape = held[lab.seeds[0]]["pool"].input_shape
        other = lab.dataset(self.other).pool.x
        server = lab.serve(
            "victims",
            {f"victim-{seed}": (network, '{ type = "label_only" }') for seed, network in victims.items()},
        )
        cases = [(RELATED, n) for n in self.related] + [(UNRELATED, n) for n in self.unrelated]
        runs = [(*case, seed) for case in cases for seed in lab.seeds]
        found: dict[tuple[str, int], dict[int, float | None]] = {}
        for kind, n, seed in tqdm(runs, desc=self.ID, unit="theft", dynamic_ncols=True):
            rng, pools, victim = np.random.default_rng([seed, 3]), held[seed], victims[seed]
            pool = pools["pool"]
            if kind == UNRELATED:
                pool = Pool(streams.grey(other[rng.permutation(len(other))[:n]], shape))
            attack = Copycat(self.family, max(self.epochs, self.epochs * 1000 // n))
            account = f"{kind.split()[0]}-{n}-{seed}"
            stolen = lab.attack(server, f"victim-{seed}", account, attack, pool, n, seed)
            labels = stolen.answer.labels if kind == UNRELATED else _truth(pools["pool"], stolen.x)
            told = rng.permutation(labels) if kind == UNRELATED else labels
            control = attack.extract(
                knowing(Pool(stolen.x, told), victim), Pool(stolen.x), np.random.default_rng([seed, 1])
            )
            test = pools["evaluation"].x
            for name, copy in ((kind, stolen.model), (NULL if kind == UNRELATED else TRUE, control)):
                found.setdefault((name, n), {})[seed] = _agreement(copy, victim, test)
        most = max(
            float(np.bincount(victim.predict(held[seed]["evaluation"].x).argmax(axis=1)).max())
            / len(held[seed]["evaluation"])
            for seed, victim in victims.items()
        )
        return Findings(
            tuple(self._found(found, most)),
            {
                RELATED: {"is": f"the pool role of {self.data}"},
                UNRELATED: {"is": f"{self.other}, whose images are of another kind"},
            },
            lab.about_all(victims, self.data, held),
            (
                "The paper steals other tasks with up to three million photographs, by a pretrained VGG-16; "
                f"nothing is pretrained here. Of n < 1,000 images, there are {self.epochs} * 1,000 / n passes.",
                "Victims answer with labels alone.",
            ),
        )

    def _found(
        self, found: Mapping[tuple[str, int], Mapping[int, float | None]], most: float
    ) -> Iterator[Finding]:
        for (name, n), values in found.items():
            yield over_seeds(
                f"agreement: {n:,} {name}",
                f"{self.data}, victim {self.family}; surrogate: the victim's own architecture",
                "none on this data"
                if name in (NULL, TRUE)
                else "copy's accuracy >= 93.7 % of the victim's, other data",
                values,
                baseline=f"one class always: at most {most:.1%}",
                unit="share",
            )


def _truth(pool: Pool, x: Array) -> Array:
    """Returns the true labels of rows of a pool, ``(n,)``."""
    assert pool.y is not None
    labels = {row.tobytes(): label for row, label in zip(pool.x, pool.y.tolist(), strict=True)}
    return np.array([labels[row.tobytes()] for row in x], np.int64)


def _agreement(copy: Network, victim: Network, x: Array) -> float:
    return metrics.agreement(copy.predict(x).argmax(axis=1), victim.predict(x).argmax(axis=1)).rate
