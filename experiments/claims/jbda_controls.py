"""A6: what the surrogates of JbDA and T-RND owe to the victim's answers.

Sources: Papernot, McDaniel, Goodfellow, Jha, Celik, Swami, "Practical Black-Box Attacks against Machine
Learning", AsiaCCS 2017; Juuti, Szyller, Marchal, Asokan, "PRADA: Protecting Against DNN Model Stealing Attacks",
EuroS&P 2019.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from tqdm import tqdm

from attacker.extraction.extraction import Extraction
from attacker.extraction.jbda import Jbda
from attacker.extraction.t_rnd import TRnd
from experiments import metrics
from experiments.claims.claim import Finding, Findings, over_seeds
from experiments.lab import Lab
from wire import BadInput
from zoo.data import Pool
from zoo.training import Training

METHOD = "JbDA"
NULL = "JbDA's rows, labelled as their parents"
T_RND = "T-RND"
T_RND_NULL = "T-RND's rows, labelled as their parents"
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    METHOD: {},
    NULL: {"answers": "parent"},
    "random steps": {"direction": "random"},
    "random steps, labelled as their parents": {"direction": "random", "answers": "parent"},
    T_RND: {},
    T_RND_NULL: {"answers": "parent"},
}
"""The attacks and their controls; those that label rows as their parents query the seeds alone."""

PUBLISHED, QUERIES = {METHOD: "95.1 %", T_RND: "97.9 %"}, 102_400


@dataclass(frozen=True)
class A6:
    """Agreement of surrogates of JbDA and T-RND, beside the same attacks without answers or without gradients.

    Attributes:
        data: The data set.
        family: Family of the victims.
        training: Training of the victims.
        families: Families of the surrogates.
        seeds: Rows that an attack begins with.
        queries: Rows of a theft: the seeds, doubled until there are so many. The published runs have 102,400.
        epochs: Passes over the rows in each round.
        variants: Those of :data:`VARIANTS` to run; an attack's null is run in any case.
    """

    ID: ClassVar[str] = "A6"
    SAYS: ClassVar[str] = (
        "JbDA's surrogate agrees with the victim on 95.1 % of the test rows after 102,400 queries, T-RND's on "
        "97.9 % (MNIST, the victim's own kind of CNN)"
    )
    SOURCE: ClassVar[str] = "Juuti et al., EuroS&P 2019, authors' slides"

    data: str = "mnist"
    family: str = "cnn"
    training: Training = field(default_factory=lambda: Training(epochs=2))
    families: tuple[str, ...] = ("cnn", "mlp")
    seeds: int = 100
    queries: int = 6400
    epochs: int = 10
    variants: tuple[str, ...] = tuple(VARIANTS)

    def __post_init__(self) -> None:
        if not 1 <= self.seeds <= self.queries:
            raise BadInput(
                f"seeds {self.seeds}, queries {self.queries}; expected at least 1, and no fewer queries"
            )
        if not set(self.variants) <= set(VARIANTS):
            raise BadInput(f"variants {self.variants}; expected some of {', '.join(VARIANTS)}")

    def run(self, lab: Lab) -> Findings:
        """Steals each victim by every variant over HTTP; see :class:`~experiments.claims.claim.Claim`."""
        held, victims = lab.victims(self.data, self.family, self.training)
        server = lab.serve("victims", {f"victim-{seed}": (network, "") for seed, network in victims.items()})
        names = [name for name in VARIANTS if name in (*self.variants, *map(null_of, self.variants))]
        runs = [(family, name, seed) for family in self.families for name in names for seed in lab.seeds]
        found: dict[tuple[str, str], dict[int, float | None]] = {}
        asked: dict[str, int] = {}
        for family, name, seed in tqdm(runs, desc=self.ID, unit="theft", dynamic_ncols=True):
            attack = self._attack(name, family)
            account = f"{family}-{list(VARIANTS).index(name)}-{seed}"
            pool, test = held[seed]["pool"], held[seed]["evaluation"]
            stolen = lab.attack(server, f"victim-{seed}", account, attack, pool, self.queries, seed)
            labels = [network.predict(test.x).argmax(axis=1) for network in (stolen.model, victims[seed])]
            found.setdefault((family, name), {})[seed] = metrics.agreement(labels[0], labels[1]).rate
            asked[name] = len(stolen.x)
        return Findings(
            tuple(self._finding(key, found, held[lab.seeds[0]]) for key in found),
            {name: {"is": str(dict(VARIANTS[name]) or "the defaults"), "rows": n} for name, n in asked.items()},
            lab.about_all(victims, self.data, held),
            self._notes(held[lab.seeds[0]]),
        )

    def _attack(self, name: str, family: str) -> Extraction:
        rounds, changes = math.ceil(math.log2(self.queries / self.seeds)), VARIANTS[name]
        if null_of(name) == T_RND_NULL:
            given: dict[str, Any] = {"lrs": (1e-3,), "epochs": (self.epochs,), "search_every": 0}
            return TRnd(self.seeds, rounds, family=family, **given, **changes)
        return Jbda(self.seeds, rounds, epochs=self.epochs, family=family, **changes)

    def _finding(
        self,
        key: tuple[str, str],
        found: Mapping[tuple[str, str], Mapping[int, float | None]],
        held: Mapping[str, Pool],
    ) -> Finding:
        family, name = key
        null = found[family, null_of(name)].values()
        whose = "the victim's own architecture" if family == self.family else f"another architecture, {family}"
        published = PUBLISHED.get(name, "none")
        if name in PUBLISHED and (self.data, self.queries, family) != ("mnist", QUERIES, self.family):
            published = f"none at this size ({published} after {QUERIES:,} rows)"
        return over_seeds(
            f"agreement: {name}",
            f"{self.data}, victim {self.family} trained on {len(held['victim']):,} rows; surrogate: {whose}; "
            f"{self.seeds} seeds of the victim's own distribution, {self.queries:,} rows",
            published,
            found[key],
            baseline=f"without answers: {', '.join(f'{value:.1%}' for value in null if value is not None)}",
            unit="share",
        )

    def _notes(self, held: Mapping[str, Pool]) -> tuple[str, ...]:
        return (
            f"The published figures are of {QUERIES:,} rows from 100 seeds, ten of each class, and of victims "
            "trained on 55,000 rows. Here, seeds are drawn from a pool without labels, and a run ends at "
            f"{self.queries:,} rows.",
            f"Surrogates and victims are compared on {len(held['evaluation']):,} rows that no party has. All "
            "seeds draw from the same data set.",
            "Rows that are labelled as their parents cost nothing: these surrogates know the victim's answers to "
            f"{self.seeds} rows, and nothing else. They have as many rows as the last round of the attack makes "
            "without a budget.",
            "T-RND is given JbDA's epochs, and searches neither these nor the learning rate.",
        )


def null_of(name: str) -> str:
    """Returns the null of a variant: the same rows, each labelled as the row that it came from."""
    return T_RND_NULL if name in (T_RND, T_RND_NULL) else NULL
