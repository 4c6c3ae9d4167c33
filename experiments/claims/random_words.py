"""A10: a text classifier is stolen with random sequences of words, and better with texts of its own kind.

Source: Krishna, Tomar, Parikh, Papernot, Iyyer, "Thieves on Sesame Street! Model Extraction of BERT-based APIs",
ICLR 2020.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from tqdm import tqdm

from attacker.extraction.extraction import Extraction
from attacker.extraction.knockoff import Knockoff
from attacker.extraction.random_words import RandomWords
from experiments import metrics
from experiments.claims.claim import Findings, over_seeds
from experiments.claims.paths import SPARE
from experiments.lab import Lab
from wire import Array
from zoo.data import Pool
from zoo.families import FAMILIES
from zoo.model import Model
from zoo.recipe import Recipe

PUBLISHED = {
    "random words of another corpus": "accuracy 90.1 of 93.1 % (SST2, BERT)",
    "texts of another corpus": "accuracy 91.4 of 93.1 % (SST2, BERT)",
}


@dataclass(frozen=True)
class A10:
    """Agreement of surrogates that learn from random words, from other texts, and from the victim's kind of texts.

    Attributes:
        data: The victims' data set.
        foreign: Another data set of texts.
        rows: Rows of a theft.
    """

    ID: ClassVar[str] = "A10"
    SAYS: ClassVar[str] = "A text classifier is stolen with random words; in-distribution queries do better"
    SOURCE: ClassVar[str] = "Krishna et al., ICLR 2020"

    data: str = "rt_polarity"
    foreign: str = "kjv"
    rows: tuple[int, ...] = (300, 1500)

    def run(self, lab: Lab) -> Findings:
        """Steals each seed's victim over HTTP; see :class:`~experiments.claims.claim.Claim`."""
        held = {seed: lab.roles(self.data, seed) for seed in lab.seeds}
        kind = FAMILIES["tfidf"]()
        victims = {seed: Recipe(kind, seed=seed).train(pools["victim"]) for seed, pools in held.items()}
        labels = '{ type = "label_only" }'
        server = lab.serve("victims", {f"victim-{seed}": (network, labels) for seed, network in victims.items()})
        found: dict[tuple[str, int], dict[int, tuple[float, float]]] = {}
        nulls: dict[int, dict[int, tuple[float, float]]] = {}
        constants = {}
        for seed, victim in tqdm(victims.items(), desc=self.ID, unit="victim"):
            spare = [held[seed][role] for role in SPARE]
            x, truth = np.concatenate([pool.x for pool in spare]), np.concatenate([_labels(p) for p in spare])
            said = victim.predict(x).argmax(axis=1)
            constants[seed] = float(np.bincount(said).max() / len(said))
            foreign, own = lab.roles(self.foreign, seed)["pool"], held[seed]["pool"]
            thefts: dict[str, tuple[Extraction, Pool]] = {
                "random words of another corpus": (RandomWords(), foreign),
                "random words of the victim's corpus": (RandomWords(), own),
                "texts of another corpus": (Knockoff("tfidf"), foreign),
                "texts of the victim's corpus": (Knockoff("tfidf"), own),
            }
            for number, (name, (attack, pool)) in enumerate(thefts.items()):
                for n in self.rows:
                    attack = replace(attack, rows=n) if isinstance(attack, RandomWords) else attack
                    oracle = lab.oracle(server, f"victim-{seed}", f"thief-{seed}-{number}-{n}")
                    owned = replace(pool.take(slice(n)) if isinstance(attack, Knockoff) else pool, y=None)
                    copy = attack.extract(oracle, owned, np.random.default_rng([seed, 1]))
                    found.setdefault((name, n), {})[seed] = _worth(copy, said, x, truth)
            for n in self.rows:
                honest = Recipe(kind, seed=seed).train(own.take(slice(n)))
                nulls.setdefault(n, {})[seed] = _worth(honest, said, x, truth)
        constant = f"a constant answer: {np.median(list(constants.values())):.1%}"
        return Findings(
            tuple(
                over_seeds(
                    what,
                    f"{self.data}, TF-IDF victim that tells labels, TF-IDF surrogate, {n} texts",
                    PUBLISHED.get(name.partition(": ")[0], "none") if at else "none",
                    {seed: each[at] for seed, each in values.items()},
                    baseline=f"true labels, no API: {_median(nulls[n], at):.1%}; {constant}",
                    unit="share",
                )
                for (name, n), values in found.items()
                for at, what in enumerate((f"{name}: agreement", f"{name}: accuracy"))
            ),
            {},
            {
                f"victim-{seed}": lab.about(
                    network, self.data, len(held[seed]["victim"]), held[seed]["evaluation"]
                )
                for seed, network in victims.items()
            },
            (
                "The paper's victims and surrogates are BERT models that were trained on much text before; these "
                "know nothing but their own rows.",
                f"The other corpus is {self.foreign}. Agreement is on texts that trained neither.",
            ),
        )


def _labels(pool: Pool) -> Array:
    assert pool.y is not None
    return pool.y


def _worth(copy: Model, said: Array, x: Array, truth: Array) -> tuple[float, float]:
    """Returns a copy's agreement with what the victim said, and its accuracy."""
    labels = copy.predict(x).argmax(axis=1)
    return metrics.agreement(labels, said).rate, metrics.agreement(labels, truth).rate


def _median(values: Mapping[int, tuple[float, float]], at: int) -> float:
    return float(np.median([each[at] for each in values.values()]))
