"""A14: accuracy, fidelity and functional equivalence are three different goals of a theft.

Source: Jagielski, Carlini, Berthelot, Kurakin, Papernot, "High Accuracy and High Fidelity Extraction of Neural
Networks", USENIX Security 2020, sections 3 and 6.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from tqdm import tqdm

from attacker.extraction.active_thief import ActiveThief
from attacker.extraction.copycat import Copycat
from attacker.extraction.data_free import DataFree
from attacker.extraction.dfms_hl import DfmsHl
from attacker.extraction.equation_solving import EquationSolving
from attacker.extraction.extraction import Extraction
from attacker.extraction.informed import Informed
from attacker.extraction.jbda import Jbda
from attacker.extraction.knockoff import Knockoff
from attacker.extraction.line_search import LineSearch
from attacker.extraction.mixmatch import MixMatch
from attacker.extraction.relu import Relu
from attacker.extraction.retraining import Retraining
from attacker.extraction.t_rnd import TRnd
from cli.money import MICRO
from experiments import metrics
from experiments.claims.active_learning import knowing
from experiments.claims.claim import Finding, Findings, over_seeds
from experiments.lab import PRICES, Lab
from wire import Array, BadInput
from wire.fits import uniform
from zoo.data import Pool
from zoo.families.mlp import Mlp
from zoo.network import Network
from zoo.training import Training

TRUE = "the pool's true labels, without the API"
SHUFFLED = "Knockoff, answers shuffled"
EPSILON = 0.1  # of the range, for adversarial examples
COSTS = ("rows", "money")
SHARES = ("accuracy", "fidelity, test rows", "fidelity, uniform rows", "transfer", "transfer of random signs")


@dataclass(frozen=True)
class A14:
    """Accuracy, fidelity, equivalence and adversarial transfer of surrogates, by method.

    Attributes:
        data: The data set; its features lie between 0 and 1.
        hidden: Hidden units of the victims, in one layer.
        training: Training of the victims.
        knockoff: Rows that Knockoff, ActiveThief, MixMatch, Copycat and the thief who drops what contradicts ask.
        seeds: Rows that JbDA and T-RND begin with.
        rounds: Their doublings.
        ratio: Rows per unknown parameter for equation solving.
        made: Rows that the attacks without data make, and those that search lines.
        budget: Most rows of functionally equivalent extraction.
        uniform_rows: Uniformly random rows on which the two are compared.
        methods: The methods to run, by the names of the table; all if none is named. Knockoff, whose nulls stand
            beside all, runs in any case.
    """

    ID: ClassVar[str] = "A14"
    SAYS: ClassVar[str] = (
        "Accuracy, fidelity and functional equivalence are different goals: learning from answers does not reach "
        "the victim's function, and the direct attack on one hidden ReLU layer does"
    )
    SOURCE: ClassVar[str] = "Jagielski et al., USENIX Security 2020"

    data: str = "digits"
    hidden: int = 32
    training: Training = field(default_factory=lambda: Training(epochs=40))
    knockoff: int = 250
    seeds: int = 100
    rounds: int = 4
    ratio: float = 2.0
    made: int = 20_000
    budget: int = 1_000_000
    uniform_rows: int = 5000
    methods: tuple[str, ...] = ()

    def run(self, lab: Lab) -> Findings:
        """Steals each victim by every method over HTTP; see :class:`~experiments.claims.claim.Claim`."""
        family = Mlp((self.hidden,))
        held, victims = lab.victims(self.data, family, self.training)
        server = lab.serve("victims", {f"victim-{seed}": (network, "") for seed, network in victims.items()})
        learner = Knockoff("mlp", epochs=30)
        methods: dict[str, Extraction] = {
            "functionally equivalent extraction": Relu(),
            "equation solving (form known)": EquationSolving("mlp", (self.hidden,), self.ratio, steps=300),
            "Knockoff": learner,
            "ActiveThief": ActiveThief(self.knockoff, 5, family="mlp", epochs=100, early_stopping=20),
            "MixMatch": MixMatch(500, shift=0, weight=10.0, family="mlp"),
            "Copycat, labels": Copycat("mlp", epochs=30, shift=0),
            "informed, a fifth of the rows left out": Informed(recover="none", drop=0.2, family="mlp"),
            "JbDA": Jbda(self.seeds, self.rounds, family="mlp"),
            "JbDA's rows, labelled as their parents": Jbda(
                self.seeds, self.rounds, family="mlp", answers="parent"
            ),
            "T-RND": TRnd(self.seeds, self.rounds, family="mlp"),
            "T-RND's rows, labelled as their parents": TRnd(
                self.seeds, self.rounds, family="mlp", answers="parent"
            ),
            "line search, labels": LineSearch(self.made // 4, lines=self.made // 20, family="mlp"),
            "adaptive retraining, labels": Retraining(self.made, family="mlp"),
            "DFME, no rows of its own": DataFree(self.made, family="mlp", batch=64, width=32),
            "DFMS-HL, labels, no rows of its own": DfmsHl(self.made, family="mlp", width=16),
            "random rows, labels": DfmsHl(self.made, queries="random", family="mlp"),
        }
        if not set(self.methods) <= set(methods):
            raise BadInput(f"methods {', '.join(self.methods)}; expected some of {', '.join(methods)}")
        chosen = [name for name in methods if not self.methods or name in self.methods or methods[name] is learner]
        found: dict[str, dict[str, dict[int, float | None]]] = {}
        runs = [(name, seed) for name in chosen for seed in lab.seeds]
        for name, seed in tqdm(runs, desc=self.ID, unit="theft", dynamic_ncols=True):
            pools, victim, attack = held[seed], victims[seed], methods[name]
            natural = isinstance(attack, Knockoff | ActiveThief | MixMatch | Copycat | Informed)
            budget = self.knockoff if natural else self.budget
            account = f"{[*methods].index(name)}-{seed}"
            stolen = lab.attack(server, f"victim-{seed}", account, attack, pools["pool"], budget, seed)
            copies = {name: (stolen.model, len(stolen.x), stolen.money)}
            if attack is learner:
                rng = np.random.default_rng([seed, 1])
                shuffled = Pool(stolen.x, rng.permutation(stolen.answer.labels), pools["pool"].class_names)
                for control, rows in ((TRUE, pools["pool"]), (SHUFFLED, shuffled)):
                    copy = attack.extract(knowing(rows, victim, budget), rows, rng).network()
                    copies[control] = (copy, 0, 0) if control == TRUE else (copy, len(shuffled), stolen.money)
            for whose, (copy, asked, money) in copies.items():
                cost = {"rows": float(asked), "money": money / MICRO}
                for what, value in {**self._measured(copy, victim, pools, seed), **cost}.items():
                    found.setdefault(whose, {}).setdefault(what, {})[seed] = value
        most = max(float(np.bincount(_labels(v, held[s]["evaluation"].x)).max()) for s, v in victims.items())
        constant = most / len(held[lab.seeds[0]]["evaluation"])
        return Findings(
            tuple(self._found(found, constant)),
            {
                "pool": {"is": "the pool role, of the victim's own distribution"},
                "uniform rows": {"is": "features uniform over the card's range", "rows": self.uniform_rows},
            },
            lab.about_all(victims, self.data, held),
            (
                "Functionally equivalent extraction takes rows of the pool as ends of lines, equation solving "
                "takes uniform rows; the others learn from the pool, or from a few of its rows. Surrogates that "
                "learn are perceptrons of 256 and 128 hidden units; equation solving is told the victim's layer.",
                "Logits are compared up to a constant of each row. Answers are probabilities in float32, which "
                "bounds how close any attack can come.",
                f"Transfer: one step of {EPSILON:g} per feature along the sign of the surrogate's gradient. A "
                "success is a row whose label the victim changes. Random signs are its null.",
                f"A row costs {PRICES[0]}, and a request {PRICES[1]}. Where the pool is smaller than a row limit, "
                "the limit is not reached.",
                "Not applicable: the attacks on trees, on linear models of two classes, and on texts.",
            ),
        )

    def _measured(self, copy: Network, victim: Network, pools: Mapping[str, Pool], seed: int) -> dict[str, float]:
        rng, test = np.random.default_rng([seed, 3]), pools["evaluation"]
        assert test.y is not None
        random = uniform(victim.card(), self.uniform_rows, rng)
        before = _labels(victim, test.x)
        steps = -np.sign(copy.gradient(test.x, before, of="log_probability"))
        noise = rng.choice([-1.0, 1.0], size=test.x.shape)
        median, most = metrics.logit_difference(copy.logits(test.x), victim.logits(test.x))
        moved = [np.clip(test.x + EPSILON * sign, 0, 1).astype(np.float32) for sign in (steps, noise)]
        return {
            "accuracy": metrics.agreement(_labels(copy, test.x), test.y).rate,
            "fidelity, test rows": metrics.agreement(_labels(copy, test.x), before).rate,
            "fidelity, uniform rows": metrics.agreement(_labels(copy, random), _labels(victim, random)).rate,
            "difference of a logit, median": median,
            "difference of a logit, most": most,
            "transfer": metrics.transfer(before, _labels(victim, moved[0])).rate,
            "transfer of random signs": metrics.transfer(before, _labels(victim, moved[1])).rate,
        }

    def _found(
        self, found: Mapping[str, Mapping[str, Mapping[int, float | None]]], constant: float
    ) -> Iterator[Finding]:
        for method, measured in found.items():
            for what, values in measured.items():
                known = [value for value in found[TRUE][what].values() if value is not None]
                share = what in SHARES
                baseline = "none" if what in COSTS else f"without the API {np.median(known):.3g}"
                if what == "fidelity, test rows":
                    baseline += f", one class always at most {constant:.1%}"
                yield over_seeds(
                    what,
                    f"{self.data}, victim mlp with {self.hidden} hidden units; {method}",
                    "none in this setting",
                    values,
                    baseline=baseline,
                    unit="share" if share else "rows" if what == "rows" else "",
                )


def _labels(network: Network, x: Array) -> Array:
    return np.asarray(network.predict(x).argmax(axis=1))
