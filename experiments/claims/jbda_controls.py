"""A6: what JbDA's surrogate owes to the victim's answers.

Sources: Papernot, McDaniel, Goodfellow, Jha, Celik, Swami, "Practical Black-Box Attacks against Machine
Learning", AsiaCCS 2017; Juuti, Szyller, Marchal, Asokan, "PRADA: Protecting Against DNN Model Stealing Attacks",
EuroS&P 2019.
"""

from __future__ import annotations

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
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    METHOD: {},
    NULL: {"answers": "parent"},
    "random steps": {"direction": "random"},
    "random steps, labelled as their parents": {"direction": "random", "answers": "parent"},
    T_RND: {},
}
"""The attacks and their controls; those that label rows as their parents query the seeds alone."""


@dataclass(frozen=True)
class A6:
    """Agreement of JbDA's surrogate with the victim, beside the same attack without answers or without gradients.

    Attributes:
        data: The data set.
        family: Family of the victims.
        training: Training of the victims.
        families: Families of the surrogates.
        seeds: Rows that an attack begins with.
        rounds: Doublings.
        epochs: Passes over the rows in each round.
        variants: Those of :data:`VARIANTS` to run; the null is run in any case.
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
    rounds: int = 6
    epochs: int = 10
    variants: tuple[str, ...] = tuple(VARIANTS)

    def __post_init__(self) -> None:
        if not set(self.variants) <= set(VARIANTS):
            raise BadInput(f"variants {self.variants}; expected some of {', '.join(VARIANTS)}")

    def run(self, lab: Lab) -> Findings:
        """Steals each victim by every variant over HTTP; see :class:`~experiments.claims.claim.Claim`."""
        held, victims = lab.victims(self.data, self.family, self.training)
        server = lab.serve("victims", {f"victim-{seed}": (network, "") for seed, network in victims.items()})
        names = [name for name in VARIANTS if name in (*self.variants, NULL)]
        runs = [(family, name, seed) for family in self.families for name in names for seed in lab.seeds]
        found: dict[tuple[str, str], dict[int, float | None]] = {}
        asked: dict[str, int] = {}
        for family, name, seed in tqdm(runs, desc=self.ID, unit="theft", dynamic_ncols=True):
            attack = self._attack(name, family)
            account = f"{family}-{list(VARIANTS).index(name)}-{seed}"
            pool, test = held[seed]["pool"], held[seed]["evaluation"]
            stolen = lab.attack(server, f"victim-{seed}", account, attack, pool, self.rows, seed)
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
        if name == T_RND:
            return TRnd(self.seeds, self.rounds, family=family, lrs=(1e-3,), epochs=(self.epochs,), search_every=0)
        return Jbda(self.seeds, self.rounds, epochs=self.epochs, family=family, **VARIANTS[name])

    @property
    def rows(self) -> int:
        """Rows that the surrogate is trained on in the end."""
        return self.seeds << self.rounds

    def _finding(
        self,
        key: tuple[str, str],
        found: Mapping[tuple[str, str], Mapping[int, float | None]],
        held: Mapping[str, Pool],
    ) -> Finding:
        family, name = key
        null = found[family, NULL].values()
        whose = "the victim's own architecture" if family == self.family else f"another architecture, {family}"
        return over_seeds(
            f"agreement: {name}",
            f"{self.data}, victim {self.family} trained on {len(held['victim']):,} rows; surrogate: {whose}; "
            f"{self.seeds} seeds of the victim's own distribution, {self.rows:,} rows",
            "none at this size",
            found[key],
            baseline=f"without answers: {', '.join(f'{value:.1%}' for value in null if value is not None)}",
            unit="share",
        )

    def _notes(self, held: Mapping[str, Pool]) -> tuple[str, ...]:
        return (
            "The published figure is of 102,400 rows from 100 seeds, ten of each class, and of victims trained on "
            "55,000 rows. Here, seeds are drawn from a pool without labels, and a run ends at "
            f"{self.rows:,} rows.",
            f"Surrogates and victims are compared on {len(held['evaluation']):,} rows that no party has. All "
            "seeds draw from the same data set.",
            "Rows that are labelled as their parents cost nothing: these surrogates know the victim's answers to "
            f"{self.seeds} rows, and nothing else.",
            "T-RND is given JbDA's epochs, and searches neither these nor the learning rate.",
        )
