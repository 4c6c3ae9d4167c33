"""ActiveThief.

Source: Pal, Gupta, Shukla, Kanade, Shevade, Ganapathy, "ActiveThief: Model Extraction Using Active Learning and
Unannotated Public Data", AAAI 2020.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from attacker.asking import some
from attacker.extraction.active_learning import deepfool, entropy, k_center
from attacker.extraction.targets import targets
from attacker.surrogate import family_named, new_seed, numbers, own_model
from wire import Array, BadInput, Oracle
from zoo.data.pool import Pool
from zoo.network import Network
from zoo.training import Training


@dataclass(frozen=True)
class ActiveThief:
    """ActiveThief: chooses rows of a pool by active learning (AAAI 2020).

    Rows drawn at random are queried first, and some more to validate surrogates. In each round, a new surrogate is
    trained on all answers, until those about the validation rows are no longer fitted better; then the next rows
    of the pool are chosen by a strategy:

    - uncertainty: those whose answers by the surrogate have the greatest entropy (Lewis, Gale 1994);
    - k_center: greedily, those whose answers are the farthest from the answers to all rows queried so far (Sener,
      Savarese 2018);
    - dfal: those that the least perturbation makes change their class, by DeepFool (Ducoffe, Precioso 2018);
    - dfal_k_center: the k_center choice among the ``shortlist`` rows of least perturbation;
    - random: the baseline.

    The paper validates by the F1 measure, here by cross-entropy, and asks for labels or probabilities alike; the
    whole answer is learnt here. DeepFool takes ``deepfool_steps`` steps rather than as many as it needs.

    Attributes:
        queries: Number of rows of all rounds together.
        rounds: Number of rounds that choose rows.
        seed_share: Share of the rows drawn at random at first.
        validation_share: Share of the rows that validate surrogates.
        strategy: How rows are chosen.
        shortlist: Number of rows of least perturbation that dfal_k_center chooses from, per row chosen.
        deepfool_steps: Most steps of DeepFool.
        family: Family of the surrogate: softmax, logistic, mlp, cnn, resnet or torchvision.
        epochs: Most passes over the answered rows in each round.
        early_stopping: Passes without a better fit of the validation rows after which training ends.
        batch: Rows per step.
        lr: Learning rate of Adam.
        weight_decay: L2 penalty on the weights.
    """

    queries: int = 10_000
    rounds: int = 10
    seed_share: float = 0.1
    validation_share: float = 0.2
    strategy: Literal["uncertainty", "k_center", "dfal", "dfal_k_center", "random"] = "dfal_k_center"
    shortlist: int = 5
    deepfool_steps: int = 1
    family: str = "cnn"
    epochs: int = 1000
    early_stopping: int = 100
    batch: int = 150
    lr: float = 1e-3
    weight_decay: float = 1e-3

    def __post_init__(self) -> None:
        if min(self.queries, self.rounds, self.shortlist, self.deepfool_steps, self.early_stopping) < 1:
            raise BadInput(
                f"{self}: queries, rounds, shortlist, deepfool_steps and early_stopping must be at least 1"
            )
        shares = (self.seed_share, self.validation_share)
        if min(shares) <= 0 or sum(shares) > 1:
            raise BadInput(
                f"{self}: seed_share and validation_share must be greater than 0 and at most 1 together"
            )

    def extract(self, oracle: Oracle, pool: Pool, rng: np.random.Generator) -> Network:
        """Repeats choosing, querying and training; see :class:`Extraction`."""
        rows, first = numbers(pool.x), own_model(oracle.card, family_named(self.family), seed=new_seed(rng))
        validation, seeds = (max(1, round(s * self.queries)) for s in (self.validation_share, self.seed_share))
        left = rng.permutation(len(rows))
        asked, left = left[: validation + seeds], left[validation + seeds :]
        y = targets(some(oracle, rows[asked]), first.classes)
        asked = asked[: len(y)]
        held, kept = asked[:validation], asked[validation:]
        held_y, y = y[:validation], y[validation:]
        if not len(kept):  # the budget ended before
            kept, y = held, held_y
        surrogate = self._trained(oracle, rows[kept], y, (rows[held], held_y), rng)
        each = np.diff(
            np.linspace(0, max(self.queries - validation - seeds, 0), self.rounds + 1).round().astype(int)
        )
        for n in each.tolist():
            if oracle.ended is not None or not n or not len(left):
                break
            chosen = self._choose(surrogate, rows, left, kept, n, rng)
            answers = targets(oracle.collect(rows[left[chosen]]), first.classes)
            kept = np.concatenate([kept, left[chosen][: len(answers)]])
            y, left = np.concatenate([y, answers]), np.delete(left, chosen)
            surrogate = self._trained(oracle, rows[kept], y, (rows[held], held_y), rng)
        return surrogate

    def _trained(
        self, oracle: Oracle, x: Array, y: Array, held: tuple[Array, Array], rng: np.random.Generator
    ) -> Network:
        surrogate = own_model(oracle.card, family_named(self.family), seed=new_seed(rng))
        training = Training(self.epochs, self.batch, self.lr, weight_decay=self.weight_decay, schedule="constant")
        label = f"{len(x)} rows"
        return surrogate.fit(
            x, y, training, seed=new_seed(rng), label=label, held_out=held, patience=self.early_stopping
        )

    def _choose(
        self, surrogate: Network, rows: Array, left: Array, kept: Array, n: int, rng: np.random.Generator
    ) -> Array:
        """Returns the places in ``left`` of the ``n`` rows to query next."""
        if self.strategy == "random":
            return rng.permutation(len(left))[:n]
        if self.strategy == "uncertainty":
            return np.argsort(-entropy(surrogate.predict(rows[left])), kind="stable")[:n]
        near = np.arange(len(left))
        if self.strategy != "k_center":
            shortlist = n if self.strategy == "dfal" else self.shortlist * n
            near = np.argsort(deepfool(surrogate, rows[left], self.deepfool_steps), kind="stable")[:shortlist]
        if self.strategy == "dfal":
            return near
        found: Array = near[k_center(surrogate.predict(rows[left[near]]), surrogate.predict(rows[kept]), n)]
        return found
