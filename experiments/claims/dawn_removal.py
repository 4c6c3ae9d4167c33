"""C4: DAWN's marks in stolen models, in changed ones, and in models that were not stolen.

Thieves steal from served victims, each of which marks at its own rate. The owner commits to the ledger of marks,
opens each thief's marks and queries every suspect about them (:class:`owner.dawn.Dawn`), and independent models
for comparison. The suspects answer in process, with labels only.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
from tqdm import tqdm

from attacker.extraction.extraction import Extraction
from attacker.extraction.jbda import Jbda
from attacker.extraction.knockoff import Knockoff
from attacker.extraction.targets import targets
from experiments.claims.claim import Findings
from experiments.claims.dawn_case import AS_STOLEN, Case, Classify, Cost, Suspicion, labels_of
from experiments.claims.dawn_findings import findings
from experiments.claims.removal import noisy, pruned, shaken, shifted
from experiments.claims.retraining import agreeing, like, retrained, stopped_early
from experiments.lab import Asked, Lab
from wire import Array, Labels
from zoo.data import Pool
from zoo.network import Network
from zoo.training import Training


@dataclass(frozen=True)
class C4:
    """Steals marked models, changes what was stolen, and has the owner accuse.

    Attributes:
        data: Data sets; the first has all seeds and rates, the others the first seed and the last rate.
        rates: Rates of marks, rising; removal is tried at the last.
        thieves: The attacks by name.
        once: Attacks that run at the last rate only.
        budget: Most rows of each attack.
        independents: Independent models of each victim, by turns a CNN and an MLP.
        independent_rows: Rows that each is trained on, drawn from the control role.
        tuning_rows: Labelled rows that a stolen model is fine-tuned on.
        tuning: The training of the fine-tuning.
        pruned: Shares of the weights that are set to zero, layer by layer.
        shaken: Noise on the weights, in units of their standard deviation.
        noisy: Noise on the rows of the owner's queries, the authors' eps.
        distilled_rows: Unmarked rows that the stolen model labels for a second model, trained as it was.
        copies: Shifted copies of each row that train Knockoff's surrogate in place of the row.
        pixels: Greatest shift of a copy.
        junk: Rows that a thief queries and throws away, for each row that Knockoff's surrogate learns from.
        accounts: Numbers of accounts over which Knockoff's rows are split.
        folds: Parts of Knockoff's rows: those that a surrogate of the other parts contradicts are left out.
        held_out: Share of its rows that end the training early.
        patience: Epochs without a better fit of these rows, after which it ends.
    """

    ID: ClassVar[str] = "C4"
    SAYS: ClassVar[str] = (
        "DAWN marks every surrogate stolen through the API: confidence of more than 1 - 2^-64 at a cost of "
        "0.03 to 0.5 % in accuracy"
    )
    SOURCE: ClassVar[str] = "Szyller, Atli, Marchal, Asokan, ACM MM 2021"

    data: tuple[str, ...] = ("fashion_mnist", "mnist")
    rates: tuple[float, ...] = (0.005, 0.01, 0.02)
    thieves: Mapping[str, Extraction] = field(
        default_factory=lambda: {"knockoff": Knockoff(), "jbda": Jbda(family="mlp"), "jbda-cnn": Jbda()}
    )
    once: tuple[str, ...] = ("jbda-cnn",)
    budget: int = 9600
    independents: int = 10
    independent_rows: int = 5000
    tuning_rows: tuple[int, ...] = (1000, 5000)
    tuning: Training = field(default_factory=lambda: Training(epochs=5, lr=1e-3, schedule="constant"))
    pruned: tuple[float, ...] = (0.25, 0.4, 0.5, 0.75, 0.9)
    shaken: tuple[float, ...] = (0.1, 0.25, 0.5)
    noisy: tuple[float, ...] = (0.25, 0.5, 0.9)
    distilled_rows: int = 5000
    copies: int = 3
    pixels: int = 2
    junk: float = 1.0
    accounts: tuple[int, ...] = (5, 25)
    folds: int = 2
    held_out: float = 0.1
    patience: int = 3

    def run(self, lab: Lab) -> Findings:
        """Steals, changes and accuses; see :class:`~experiments.claims.claim.Claim`."""
        for name in self.data:
            lab.dataset(name)  # fails at once if one is missing
        cases = [(name, seed) for name in self.data for seed in lab.seeds[: None if name == self.data[0] else 1]]
        total = sum(len(self.thieves_at(rate)) for name, _ in cases for rate in self.rates_of(name))
        costs: list[Cost] = []
        suspicions: list[Suspicion] = []
        victims: dict[str, Any] = {}
        with tqdm(total=total, desc=self.ID, unit="theft", dynamic_ncols=True) as bar:
            for name, seed in cases:
                case = Case(self, lab, name, seed, bar)
                victims[f"{name}, seed {seed}"] = lab.about(
                    case.victim, name, len(case.held["victim"]), case.held["evaluation"]
                )
                for rate in self.rates_of(name):
                    costs.append(case.cost(rate))
                    suspicions += case.suspicions(rate)
        return Findings(
            rows=tuple(findings(self, costs, suspicions)),
            streams=self._streams(),
            victims=victims,
            notes=self._notes(suspicions),
            more={"costs": [asdict(cost) for cost in costs], "suspicions": [asdict(one) for one in suspicions]},
        )

    def rates_of(self, data: str) -> tuple[float, ...]:
        """Returns the rates of a data set's victims."""
        return self.rates if data == self.data[0] else self.rates[-1:]

    def thieves_at(self, rate: float) -> dict[str, Extraction]:
        """Returns the attacks at a rate."""
        return {name: it for name, it in self.thieves.items() if rate == self.rates[-1] or name not in self.once}

    def removals(self, stolen: Network, held: Mapping[str, Pool], seed: int) -> Iterator[tuple[str, Classify]]:
        """Yields a stolen model as it is, and with each change that its thief may make, by name.

        Args:
            stolen: The surrogate.
            held: The rows of each role; the thief tunes and distils on those of the shadow role.
            seed: Seed of the changes.
        """
        rng = np.random.default_rng([seed, 2])
        known = held["shadow"]
        assert known.y is not None and stolen.training is not None
        yield AS_STOLEN, labels_of(stolen)
        for rows in self.tuning_rows:
            tuned = copy.deepcopy(stolen)
            tuned.fit(known.x[:rows], known.y[:rows], self.tuning, seed=seed, label="fine-tuned")
            yield f"fine-tuned on {rows:,} rows", labels_of(tuned)
        for level in self.pruned:
            yield f"pruned by {level:.0%}", labels_of(pruned(stolen, level))
        for level in self.shaken:
            yield f"weight noise {level:g}", labels_of(shaken(stolen, level, rng))
        for level in self.noisy:
            yield f"asked with noise {level:g}", partial(_asked_with_noise, labels_of(stolen), level, seed)
        fresh = known.x[-self.distilled_rows :]
        student = like(stolen, seed).fit(fresh, stolen.predict(fresh), stolen.training, seed=seed, label="distil")
        yield f"distilled on {len(fresh):,} rows", labels_of(student)

    def jittered(self, asked: Asked, seed: int) -> Network:
        """Trains a surrogate on shifted copies of the queried rows and their answers, in as many steps."""
        assert asked.model.training is not None
        rng = np.random.default_rng([seed, 3])
        x = np.concatenate([shifted(asked.x, self.pixels, rng) for _ in range(self.copies)])
        y = np.tile(targets(asked.answer, asked.model.classes), (self.copies, 1))
        training = replace(asked.model.training, epochs=max(1, asked.model.training.epochs // self.copies))
        return like(asked.model, seed).fit(x, y, training, seed=seed, label="jitter")

    def filtered(self, asked: Asked, seed: int) -> Network:
        """Trains a surrogate without the rows that a surrogate of other rows contradicts."""
        kept = agreeing(asked, self.folds, seed)
        return retrained(asked, kept, seed, "filtered")

    def stopped(self, asked: Asked, seed: int) -> Network:
        """Trains a surrogate until the answers about held-out rows fit no better."""
        return stopped_early(asked, self.held_out, self.patience, seed)

    def _streams(self) -> dict[str, Any]:
        return {
            "thieves": f"each queries at most {self.budget} rows, from the pool role, under its own account",
            "customer": "the evaluation role, once with marks and once under the owner's plan, without",
            "tuning": "the first rows of the shadow role, with their true labels",
            "junk": "as many rows of noise, or further rows of the pool, under the account of the theft",
            "split": "Knockoff's rows in turn over the accounts; the answers, so the surrogate, are the same",
            "distillation": "the last rows of the shadow role, labelled by the stolen model's probabilities",
            "independent": f"models of {self.independent_rows} rows of the control role, whose draws overlap",
        }

    def _notes(self, suspicions: Sequence[Suspicion]) -> tuple[str, ...]:
        pairs = [one for one in suspicions if not one.stolen]
        accused = sum(one.verdict == "accused" for one in pairs)
        return (
            "Each server draws its own key for the marks, so a second run has other marks.",
            "Thieves, customer and owner query over HTTP; suspects answer in process, with labels only.",
            "p0 is the greatest upper 99 % bound over the independent models, at least 1/m; the paper takes 1/m. "
            "An accusation requires a mark error L under 0.5 and a tail at 0.5 below 2^-64.",
            "The published 2^-64 holds for rates chosen to reach it: 0.5 %, m = 10 and L < 0.5 need 16,200 rows.",
            "The released artefact has 13 marks, all noise images; 13 of 13 give 2^-43 at m = 10. Their "
            "robustness says little about marks on natural rows.",
            "Each independent model was tested with each thief's marks, while the others gave p0: "
            f"{accused} of {len(pairs)} tests accuse; those of one model are not independent.",
        )


def _asked_with_noise(model: Classify, level: float, seed: int, x: Array) -> Labels:
    return model(noisy(x, level, np.random.default_rng([seed, 5])))
