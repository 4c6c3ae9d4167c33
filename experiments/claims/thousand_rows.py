"""A4, in part: what a thousand rows steal of an image classifier.

Sources: He et al. 2019 as surveyed by Irolla (networks by a substitute model, also by labels alone); a
demonstration by Praetorian (2026), which reports 80.8 % agreement after 1,000 queries on Fashion-MNIST.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from tqdm import tqdm

from attacker.extraction.active_thief import ActiveThief
from attacker.extraction.extraction import Extraction
from attacker.extraction.knockoff import Knockoff
from attacker.extraction.mixmatch import MixMatch
from experiments import metrics
from experiments.claims.active_learning import knowing
from experiments.claims.claim import Finding, Findings, over_seeds
from experiments.claims.paths import SPARE
from experiments.claims.without_data import PRICE
from experiments.lab import Lab
from zoo.data import Pool
from zoo.network import Network
from zoo.training import Training

FULL, LABELS = "all probabilities", "labels"
ANSWERS: Mapping[str, str] = {FULL: "", LABELS: '{ type = "label_only" }'}
PLAIN, TRUE, ANOTHER = "Knockoff", "Knockoff's rows with their true labels, without the API", "another victim"


@dataclass(frozen=True)
class ThousandRows:
    """Agreement with a network that classifies images by method, from rows of its own distribution.

    Attributes:
        data: The data set.
        training: Training of the victims.
        family: Family of victims and surrogates.
        rows: Rows of a theft.
        epochs: Passes of Knockoff over them.
        rounds: Rounds in which ActiveThief chooses rows.
        steps: Steps of MixMatch.
        shift: Most pixels by which MixMatch shifts images, which it then flips too; 0 for neither.
        weight: Its weight of guesses, chosen on digits and a perceptron.
    """

    ID: ClassVar[str] = "A4-images"
    SAYS: ClassVar[str] = "A network that classifies images is stolen by a substitute model with 1,000 queries"
    SOURCE: ClassVar[str] = "He et al. 2019, as surveyed by Irolla; Praetorian, 2026"

    data: str = "fashion_mnist"
    training: Training = field(default_factory=Training)
    family: str = "cnn"
    rows: int = 1000
    epochs: int = 60
    rounds: int = 4
    steps: int = 1500
    shift: int = 2
    weight: float = 10.0

    def run(self, lab: Lab) -> Findings:
        """Steals each victim over HTTP; see :class:`~experiments.claims.claim.Claim`."""
        held, victims = lab.victims(self.data, self.family, self.training)
        served = {
            f"victim-{seed}-{number}": (network, layers)
            for seed, network in victims.items()
            for number, layers in enumerate(ANSWERS.values())
        }
        server = lab.serve("victims", served)
        methods = self._methods()
        found: dict[tuple[str, str], dict[int, float | None]] = {}
        right: dict[tuple[str, str], dict[int, float]] = {}
        runs = [(name, answer, seed) for name in methods for answer in ANSWERS for seed in lab.seeds]
        for name, answer, seed in tqdm(runs, desc=self.ID, unit="theft", dynamic_ncols=True):
            pool, number = held[seed]["pool"], list(ANSWERS).index(answer)
            account = f"{list(methods).index(name)}-{number}-{seed}"
            stolen = lab.attack(server, f"victim-{seed}-{number}", account, methods[name], pool, self.rows, seed)
            copies = {(name, answer): stolen.model}
            if name == PLAIN and answer == LABELS:
                oracle = knowing(pool, victims[seed], self.rows)
                copies[TRUE, "none"] = (
                    methods[name].extract(oracle, pool, np.random.default_rng([seed, 1])).network()
                )
                other = lab.train(held[seed]["control"], seed, family=self.family, training=self.training)
                copies[ANOTHER, "none"] = other
            for key, copy in copies.items():
                agreement, accuracy = _measured(copy, victims[seed], held[seed])
                found.setdefault(key, {})[seed], right.setdefault(key, {})[seed] = agreement, accuracy
        return Findings(
            tuple(self._found(found, right)),
            {
                "pool": {
                    "is": "the pool role, of the victim's own distribution",
                    "rows": len(held[lab.seeds[0]]["pool"]),
                }
            },
            lab.about_all(victims, self.data, held),
            (
                "Surrogates have the victim's architecture, and the thief's rows its distribution: its easiest "
                "case. The demonstration's victim and pool are not known to us.",
                f"Another victim: the same training on {len(held[lab.seeds[0]]['control']):,} other rows with "
                "their true labels.",
                "MixMatch also learns from the pool's rows that it does not ask about.",
            ),
        )

    def _methods(self) -> dict[str, Extraction]:
        family = self.family
        return {
            PLAIN: Knockoff(family, epochs=self.epochs),
            "Knockoff, shifted and flipped images": Knockoff(family, epochs=self.epochs, shift=2, flip=True),
            "ActiveThief, k-center": ActiveThief(
                self.rows, self.rounds, strategy="k_center", family=family, epochs=60, early_stopping=15, batch=64
            ),
            "MixMatch": MixMatch(
                self.steps, weight=self.weight, shift=self.shift, flip=self.shift > 0, family=family
            ),
        }

    def _found(
        self,
        found: Mapping[tuple[str, str], Mapping[int, float | None]],
        right: Mapping[tuple[str, str], Mapping[int, float]],
    ) -> Iterator[Finding]:
        baseline = "; ".join(
            f"{name}: {', '.join(f'{value:.1%}' for value in found[name, 'none'].values() if value is not None)}"
            for name in (TRUE, ANOTHER)
        )
        for (name, answer), values in found.items():
            setting = f"{self.data}, victim and surrogate {self.family}; answers: {answer}; " + (
                f"{self.rows:,} rows, {self.rows * PRICE:.2f} at {PRICE} a row"
                if answer != "none"
                else "none asked"
            )
            known = answer != "none"
            yield over_seeds(
                f"agreement: {name}",
                setting,
                "80.8 % (Praetorian)" if known else "none",
                values,
                baseline=baseline,
                unit="share",
            )
            yield over_seeds(
                f"accuracy: {name}",
                setting,
                "80.1 % (Praetorian)" if known else "none",
                dict(right[name, answer]),
                baseline="none",
                unit="share",
            )


def _measured(copy: Network, victim: Network, pools: Mapping[str, Pool]) -> tuple[float, float]:
    """Returns agreement and accuracy on all rows that train nobody here."""
    roles = [role for role in SPARE if role != "control"]
    x = np.concatenate([pools[role].x for role in roles])
    y = np.concatenate([of for role in roles if (of := pools[role].y) is not None])
    labels = copy.predict(x).argmax(axis=1)
    return metrics.agreement(labels, victim.predict(x).argmax(axis=1)).rate, metrics.agreement(labels, y).rate
